"""The development stub, to be registered in a stub map by test suites."""

from appxmpp.appengine.service_stub import XmppServiceStub

__all__ = ["XmppServiceStub"]
