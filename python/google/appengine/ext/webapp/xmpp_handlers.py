"""Request handlers for inbound chat messages."""

import sys

from appxmpp.appengine import handlers

# The module itself, not its names: tests replace `logging`, `xmpp` and `webapp` in it.
sys.modules[__name__] = handlers
