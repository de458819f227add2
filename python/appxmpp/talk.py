"""Scripted conversations: a text file of `#me` and `#bot` lines.

    #me /hello
    #bot Hello, romeo!

Lines without a tag continue the one before; a tag may stand on a line of its own.
"""

from __future__ import annotations

import dataclasses
import re

from appxmpp.exits import USAGE, Exit

_TAG = re.compile(r"#(\w+)(?:[ \t]+(.*))?$")


@dataclasses.dataclass
class Line:
    """One thing said: by `me` (the person) or by `bot`."""

    who: str
    text: str
    #: Where it stands in the file, from 1.
    number: int


def parse(text: str, name: str = "the conversation") -> list[Line]:
    """The conversation in `text`; an Exit says which line is wrong."""
    lines: list[Line] = []
    for number, row in enumerate(text.splitlines(), 1):
        tag = _TAG.match(row)
        if tag:
            if tag[1] not in ("me", "bot"):
                raise Exit(f"{name}, line {number}: #{tag[1]} is nobody; write #me or #bot.", USAGE)
            lines.append(Line(tag[1], tag[2] or "", number))
        elif lines:
            lines[-1].text += "\n" + row
        elif row.strip():
            raise Exit(f"{name}, line {number}: write #me or #bot before what is said.", USAGE)
    for line in lines:
        line.text = line.text.strip("\n")
    if not any(line.who == "bot" for line in lines):
        raise Exit(f"{name} has no #bot line, so there is nothing to check.", USAGE)
    return lines
