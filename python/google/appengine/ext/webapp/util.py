"""Helpers for webapp applications."""

import sys

from appxmpp.appengine import webapp_util

# The module itself, not its names: the server that runs the app replaces functions in it.
sys.modules[__name__] = webapp_util
