from appxmpp.appengine.service_pb import (
    BulkPresenceRequest,
    BulkPresenceResponse,
    PresenceRequest,
    PresenceResponse,
    XmppInviteRequest,
    XmppInviteResponse,
    XmppMessageRequest,
    XmppMessageResponse,
    XmppSendPresenceRequest,
    XmppSendPresenceResponse,
    XmppServiceError,
)

__all__ = [
    "BulkPresenceRequest",
    "BulkPresenceResponse",
    "PresenceRequest",
    "PresenceResponse",
    "XmppInviteRequest",
    "XmppInviteResponse",
    "XmppMessageRequest",
    "XmppMessageResponse",
    "XmppSendPresenceRequest",
    "XmppSendPresenceResponse",
    "XmppServiceError",
]
