"""The gateway's commands, which the native module has: `appxmpp gateway` and what belongs to it."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Sequence

#: As `appxmpp --help` lists them. The native module is not loaded to show the help.
COMMANDS = {
    "gateway": "run the gateway between HTTP and XMPP",
    "check": "check the gateway's configuration and say what it means",
    "doctor": "find out why the gateway does not work",
    "send": "send a message through a running gateway",
    "deadletters": "see and settle what the app did not take",
    "example": "print an example configuration of the gateway",
    "man": "write the manual pages of these commands",
    "completions": "print the completions of a shell",
}


def main(arguments: Sequence[str]) -> int:
    """Do what `arguments` say; the exit code."""
    try:
        with warnings.catch_warnings():
            # That the build is slow is of interest where Python drives it.
            warnings.simplefilter("ignore", RuntimeWarning)
            from appxmpp import _native
    except ImportError as error:
        print(
            f"appxmpp: the native module cannot be loaded ({error}). "
            "Install a wheel of appxmpp made for this Python.",
            file=sys.stderr,
        )
        return 78
    # Python would only note the signal, and go on waiting for the native code.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _native.gateway_main(list(arguments))
