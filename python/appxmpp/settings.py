"""Where `appxmpp run` connects, who it is there, and where it keeps its state."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from appxmpp.app_id import application_id, strip
from appxmpp.exits import USAGE, Exit

_SECRET_IN_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^@\s]*:[^@\s]*@", re.IGNORECASE)


def refuse_secrets(arguments: Sequence[str]) -> None:
    """Every user of the machine can read a process's arguments, so no secret may stand there."""
    for argument in arguments:
        if _SECRET_IN_URL.search(argument):
            raise Exit(
                "a secret stands in the command line, where every user of this machine can read "
                "it (ps). Leave it out (component://DOMAIN@HOST:PORT) and give it in "
                "APPXMPP_SECRET, or name a file that holds it in APPXMPP_SECRET_FILE. If the "
                "machine is shared, change the secret now.",
                USAGE,
            )


def backend(argument: str | None, environ: Mapping[str, str]) -> str:
    """The backend URL of the command line or the environment."""
    url = argument or environ.get("APPXMPP_BACKEND", "")
    if not url:
        raise Exit(
            "APPXMPP_BACKEND is not set, so there is no server to connect to. Set it to "
            "component://DOMAIN@HOST:PORT, for example "
            "component://bot.example.com@127.0.0.1:5347, and give the component's secret in "
            "APPXMPP_SECRET or in a file that APPXMPP_SECRET_FILE names. "
            "To try the app without a server: appxmpp dev app.yaml"
        )
    return url


def app_id(environ: Mapping[str, str], application: str | None) -> str | None:
    """The application id: the environment's, else app.yaml's; None leaves it to the domain."""
    return application_id(environ) or strip(application or "") or None


def state(argument: str | None, environ: Mapping[str, str], name: str) -> str:
    """The file that keeps subscriptions and presence; the default one's folder is made."""
    given = argument or environ.get("APPXMPP_STATE")
    if given:
        return os.path.abspath(given)
    home = environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    folder = os.path.join(home, "appxmpp")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError as error:
        raise Exit(
            f"the state folder {folder} cannot be made: {error.strerror}. "
            "Name a file for the state with --state or APPXMPP_STATE."
        ) from None
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    return os.path.join(folder, f"{safe}.sqlite")
