"""Runs a command beside a real server: `python -m support.servers prosody -- cargo test --test live`.

The command finds the server in XMPP_SERVER, XMPP_DOMAIN, XMPP_C2S_PORT, XMPP_COMPONENT_PORT, XMPP_COMPONENT_DOMAIN,
XMPP_COMPONENT_SECRET, XMPP_COMPONENTS (`domain=secret ...`), XMPP_CA_FILE, XMPP_PID, and accounts in XMPP_ACCOUNTS
(`jid=password ...`). Its exit status is ours; the server is stopped and removed whatever happens.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys

from .ejabberd import Ejabberd
from .prosody import Prosody
from .server import COMPONENTS, Server

KINDS: dict[str, type[Server]] = {"prosody": Prosody, "ejabberd": Ejabberd}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="support.servers", usage="%(prog)s KIND [options] [-- COMMAND]", description=__doc__
    )
    parser.add_argument("kind", choices=[*KINDS, "all"])
    parser.add_argument(
        "--component", action="append", default=[], metavar="DOMAIN=SECRET", help="instead of myapp.localhost"
    )
    parser.add_argument("--accounts", type=int, default=3, metavar="N", help="how many to register (default 3)")
    ours, command = _split(sys.argv[1:])
    options = parser.parse_args(ours)
    components = dict(pair.split("=", 1) for pair in options.component) or COMPONENTS
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # A shell has what it starts in the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for kind in KINDS if options.kind == "all" else [options.kind]:
        if why := KINDS[kind].missing():
            print(f"support.servers: {why}", file=sys.stderr)
            return 69
        with KINDS[kind](components) as server:
            accounts = [server.account() for _ in range(options.accounts)]
            told = {**server.environment(), "XMPP_ACCOUNTS": " ".join(f"{a.jid}={a.password}" for a in accounts)}
            status = run_beside(command, told)
            if status:
                print(
                    f"support.servers: {command[0]} ended with {status} beside {kind}, whose log ends with:",
                    file=sys.stderr,
                )
                print(server.logs(), file=sys.stderr)
                return status
    return 0


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def run_beside(command: list[str], told: dict[str, str]) -> int:
    """Runs it, told in its environment, and returns its exit status; without one, says what it would be told."""
    if command:
        return subprocess.run(command, env={**os.environ, **told}, check=False).returncode
    for name, value in told.items():
        print(f"export {name}={value!r}")
    print("# running until Ctrl-C", flush=True)
    signal.pause()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
