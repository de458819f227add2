"""What the caller may choose: NAME=VALUE words, as `make bench ONLY=send ROUNDS=3` passes them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Options:
    only: tuple[str, ...] = field(default=(), metadata={"help": "sections to run, by comma (all)"})
    rounds: int = field(default=3, metadata={"help": "rounds of each comparison; its median counts"})
    scale: float = field(default=1.0, metadata={"help": "factor on all message counts"})
    strict: bool = field(default=False, metadata={"help": "1: end with status 1 when a target is missed"})
    out: Path = field(default=ROOT / "build" / "bench", metadata={"help": "folder of programs and results"})
    mod_rest: str = field(
        default="auto",
        metadata={"help": "mod_rest: `auto` (installed, else from Debian's newer package), its folder, or `no`"},
    )
    peers: str = field(default="all", metadata={"help": "peers to measure, by comma (all), e.g. `raw,tokio-xmpp`"})

    def count(self, n: int) -> int:
        """A message count, scaled; a multiple of 1,000."""
        return max(1000, round(n * self.scale / 1000) * 1000)

    def wants(self, peer: str) -> bool:
        """Whether a peer that no target needs is to be measured."""
        return self.peers == "all" or peer in self.peers.split(",")


class UsageError(Exception):
    """A word on the command line that means nothing here."""


def parse(words: list[str]) -> Options:
    options = Options()
    known = {f.name: f for f in fields(Options)}
    for word in words:
        name, equals, value = word.partition("=")
        key = name.lower()
        if not equals or key not in known:
            raise UsageError(f"{word!r} is no option; known: {', '.join(k.upper() + '=' for k in known)}")
        kind = type(getattr(options, key))
        try:
            if kind is tuple:
                parsed: object = tuple(part for part in value.split(",") if part)
            elif kind is bool:
                parsed = {"0": False, "1": True}[value]
            else:
                parsed = kind(value)
        except (ValueError, KeyError):
            raise UsageError(f"{name} is {value!r}: {known[key].metadata['help']}") from None
        setattr(options, key, parsed)
    if options.rounds < 1 or not 0 < options.scale <= 100:
        raise UsageError("ROUNDS is at least 1, SCALE between 0 and 100")
    return options


def usage() -> str:
    lines = ["usage: make bench [NAME=VALUE …]", ""]
    lines += [f"  {f.name.upper():9} {f.metadata['help']}" for f in fields(Options)]
    return "\n".join(lines)
