"""How the `appxmpp` command ends: exit codes, and the one exception that carries them."""

from __future__ import annotations

OK = 0
RUNTIME = 1
USAGE = 2
REFUSED = 77  # the server refused the credentials (EX_NOPERM of sysexits.h)
CONFIG = 78  # EX_CONFIG of sysexits.h


class Exit(Exception):
    """Ends the command with `code`; the text is for the person at the terminal."""

    def __init__(self, text: str, code: int = CONFIG) -> None:
        super().__init__(text)
        self.code = code
