"""`CapabilitySet`, where Google's SDK is not installed: XMPP is the only service here."""


class UnknownCapabilityError(Exception):
    """Nothing is known of the service that was asked about."""


class CapabilitySet(object):
    """Says whether a service can be used at the moment."""

    def __init__(self, package, capabilities=None, methods=None, stub_map=None):
        self._package = package

    def is_enabled(self):
        """For ``xmpp``: whether a message sent now would leave at once."""
        if self._package != "xmpp":
            raise UnknownCapabilityError(
                "the service %r is not part of this installation; "
                "appengine-python-standard has the others" % (self._package,)
            )
        from appxmpp.appengine.completions import xmpp_is_enabled

        return xmpp_is_enabled()

    def will_remain_enabled_for(self, time=60):
        """The same as `is_enabled`: no downtime is ever announced."""
        return self.is_enabled()

    def admin_message(self):
        """An empty string: there are no announcements."""
        return ""
