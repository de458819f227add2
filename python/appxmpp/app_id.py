"""Which application this process is."""

import os


def application_id(environ=None, domain=""):
    """The application id without partition (``s~``) and domain (``example.com:``).

    Taken from ``APPXMPP_APP_ID``, else ``APPLICATION_ID``, else
    ``GAE_APPLICATION``, else the part of `domain` before its first dot.
    """
    if environ is None:
        environ = os.environ
    for name in ("APPXMPP_APP_ID", "APPLICATION_ID", "GAE_APPLICATION"):
        value = environ.get(name)
        if value:
            return strip(value)
    return domain.partition(".")[0]


def version_at(domain, configured):
    """The version of an app.yaml, if `domain` is that version's: ``VERSION.latest.DOMAIN``.

    An app.yaml always names a version; the default one has the domain itself.
    """
    return configured if domain.lower().startswith(configured.lower() + ".latest.") else None


def strip(full):
    """``s~example.com:myapp`` is ``myapp``."""
    if full.find("~") > 0:
        full = full.partition("~")[2]
    if full.find(":") > 0:
        full = full.partition(":")[2]
    return full
