"""App Engine's chat service on any XMPP server.

Programs written for App Engine need nothing from here: they say
``from google.appengine.api import xmpp``. Importing this package makes that
name importable wherever the package lives, and does nothing else: no
connection, no configuration read.
"""

import importlib

from appxmpp import _finder

__version__ = "0.1.0"

_finder.install()


def __getattr__(name):
    # Asked for from Python 3.7 on (PEP 562); before that, `from appxmpp import middleware` does it.
    if name == "middleware":
        return importlib.import_module("appxmpp.middleware")
    raise AttributeError("module %r has no attribute %r" % (__name__, name))
