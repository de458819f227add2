"""App Engine's webapp framework: the names of webapp2."""

from appxmpp.appengine.webapp import *  # noqa: F403
from appxmpp.appengine.webapp import _config_handle
