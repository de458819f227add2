from appxmpp.appengine.service_stub import XmppServiceStub

__all__ = ["XmppServiceStub"]
