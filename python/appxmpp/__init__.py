"""App Engine's chat service on any XMPP server.

Programs written for App Engine need nothing from here: they say
``from google.appengine.api import xmpp``. Importing this package makes that
name importable wherever the package lives, and does nothing else: no
connection, no configuration read.
"""

from appxmpp import _finder

__version__ = "0.1.0"

_finder.install()
