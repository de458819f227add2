"""App Engine's XMPP API: send chat messages, invitations and presence, ask for presence.

The implementation is `appxmpp.appengine`; where stanzas go is chosen by the
environment variable ``APPXMPP_BACKEND`` (see `appxmpp.backend`).
"""

from appxmpp.appengine.api import (
    INVALID_JID,
    MAX_STATUS_MESSAGE_SIZE,
    MESSAGE_TYPE_CHAT,
    MESSAGE_TYPE_ERROR,
    MESSAGE_TYPE_GROUPCHAT,
    MESSAGE_TYPE_HEADLINE,
    MESSAGE_TYPE_NONE,
    MESSAGE_TYPE_NORMAL,
    NO_ERROR,
    OTHER_ERROR,
    PRESENCE_SHOW_AWAY,
    PRESENCE_SHOW_CHAT,
    PRESENCE_SHOW_DND,
    PRESENCE_SHOW_NONE,
    PRESENCE_SHOW_XA,
    PRESENCE_TYPE_AVAILABLE,
    PRESENCE_TYPE_PROBE,
    PRESENCE_TYPE_UNAVAILABLE,
    _PRESENCE_SHOW_MAPPING,
    _VALID_MESSAGE_TYPES,
    _VALID_PRESENCE_SHOWS,
    _VALID_PRESENCE_TYPES,
    _to_str,
    get_presence,
    send_invite,
    send_message,
    send_presence,
)
from appxmpp.appengine.message import Message
from appxmpp.appengine.sdk import apiproxy_errors, apiproxy_stub_map
from appxmpp.errors import (
    Error,
    InvalidJidError,
    InvalidMessageError,
    InvalidShowError,
    InvalidStatusError,
    InvalidTypeError,
    InvalidXmlError,
    NoBodyError,
    NondefaultModuleError,
)
from google.appengine.api.xmpp import xmpp_service_pb
