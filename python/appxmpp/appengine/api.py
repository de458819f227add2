"""The functions and constants of ``google.appengine.api.xmpp``."""

import logging

from appxmpp import backend
from appxmpp.appengine import rpc
from appxmpp.appengine.sdk import apiproxy_errors
from appxmpp.appengine.text import STRING_TYPES, to_str
from appxmpp.errors import (
    CallTooLargeError,
    DeadlineError,
    Error,
    InvalidJidError,
    InvalidShowError,
    InvalidStatusError,
    InvalidTypeError,
    InvalidXmlError,
    NoBodyError,
    NondefaultModuleError,
    OverQuotaError,
    ServiceError,
    UnavailableError,
)

NO_ERROR = 0
INVALID_JID = 1
OTHER_ERROR = 2

MESSAGE_TYPE_NONE = ""
MESSAGE_TYPE_CHAT = "chat"
MESSAGE_TYPE_ERROR = "error"
MESSAGE_TYPE_GROUPCHAT = "groupchat"
MESSAGE_TYPE_HEADLINE = "headline"
MESSAGE_TYPE_NORMAL = "normal"

_VALID_MESSAGE_TYPES = frozenset(
    [
        MESSAGE_TYPE_NONE,
        MESSAGE_TYPE_CHAT,
        MESSAGE_TYPE_ERROR,
        MESSAGE_TYPE_GROUPCHAT,
        MESSAGE_TYPE_HEADLINE,
        MESSAGE_TYPE_NORMAL,
    ]
)

PRESENCE_TYPE_AVAILABLE = ""
PRESENCE_TYPE_UNAVAILABLE = "unavailable"
PRESENCE_TYPE_PROBE = "probe"

_VALID_PRESENCE_TYPES = frozenset(
    [PRESENCE_TYPE_AVAILABLE, PRESENCE_TYPE_UNAVAILABLE, PRESENCE_TYPE_PROBE]
)

PRESENCE_SHOW_NONE = ""
PRESENCE_SHOW_AWAY = "away"
PRESENCE_SHOW_CHAT = "chat"
PRESENCE_SHOW_DND = "dnd"
PRESENCE_SHOW_XA = "xa"

_VALID_PRESENCE_SHOWS = frozenset(
    [
        PRESENCE_SHOW_NONE,
        PRESENCE_SHOW_AWAY,
        PRESENCE_SHOW_CHAT,
        PRESENCE_SHOW_DND,
        PRESENCE_SHOW_XA,
    ]
)

_PRESENCE_SHOW_MAPPING = {
    0: PRESENCE_SHOW_NONE,
    1: PRESENCE_SHOW_AWAY,
    2: PRESENCE_SHOW_DND,
    3: PRESENCE_SHOW_CHAT,
    4: PRESENCE_SHOW_XA,
}

MAX_STATUS_MESSAGE_SIZE = 1024

_to_str = to_str
_log = logging.getLogger("appxmpp")

# Which exception stands for an error code of the service depends on the function;
# codes that are not named surface as a plain Error.
_PRESENCE_ERRORS = {2: InvalidJidError, 9: NondefaultModuleError}
_INVITE_ERRORS = _PRESENCE_ERRORS
_SEND_MESSAGE_ERRORS = {
    2: InvalidJidError,
    3: NoBodyError,
    4: InvalidXmlError,
    5: InvalidTypeError,
    9: NondefaultModuleError,
}
_SEND_PRESENCE_ERRORS = {
    2: InvalidJidError,
    5: InvalidTypeError,
    6: InvalidShowError,
    9: NondefaultModuleError,
}


def _backend():
    return rpc.registered() or backend.get()


def _refused(error, exceptions):
    """The exception of App Engine for a `ServiceError`, with its text if it has one."""
    cls = exceptions.get(error.code, Error)
    if cls is NondefaultModuleError or not error.text:
        return cls()
    return cls(error.text)


def get_presence(jid, from_jid=None, get_show=False):
    """Says whether a contact is available.

    Args:
        jid: The JID of a contact, or an iterable of JIDs.
        from_jid: The address to ask as; one of the app's own. Default:
            ``APP_ID@DOMAIN/bot``.
        get_show: For one JID: also return the contact's show value.

    Returns:
        For one JID a bool, or with `get_show` a tuple ``(available, show)``. For
        several a list of tuples ``(available, show, valid)`` in the order given.
        `show` is one of ``PRESENCE_SHOW_*`` or None. While the server is away
        every contact is unavailable.

    Raises:
        InvalidJidError: No JID is given, none is valid, or `from_jid` is not an
            address of the app.
        Error: The service failed in another way.
    """
    if not jid:
        raise InvalidJidError()
    single = isinstance(jid, STRING_TYPES)
    jids = [to_str(one) for one in ([jid] if single else jid)]
    answers = _ask_presence(jids, to_str(from_jid) if from_jid else None)
    presences = [
        (available, _PRESENCE_SHOW_MAPPING.get(show), bool(valid))
        for available, show, valid in answers
    ]
    if not any(valid for _available, _show, valid in presences):
        raise InvalidJidError()
    if not single:
        return presences
    available, show, _valid = presences[0]
    return (available, show) if get_show else available


def _ask_presence(jids, from_jid):
    try:
        return _backend().get_presence(jids, from_jid)
    except ServiceError as error:
        failure = _refused(error, _PRESENCE_ERRORS)
    except OverQuotaError as error:
        failure = apiproxy_errors.OverQuotaError(str(error))
    except UnavailableError as error:
        _log.warning("get_presence: every contact counts as unavailable: %s", error)
        return [(False, None, True) for _jid in jids]
    raise failure


def send_invite(jid, from_jid=None):
    """Asks a user for permission to see and send presence (a subscription).

    Args:
        jid: The JID of the user.
        from_jid: The address to ask as; one of the app's own. Default:
            ``APP_ID@DOMAIN/bot``.

    Raises:
        InvalidJidError: `jid` is empty or not a JID, or `from_jid` is not an
            address of the app.
        Error: The service failed in another way, or no server is connected.
    """
    if not jid:
        raise InvalidJidError()
    try:
        return _backend().send_invite(to_str(jid), to_str(from_jid) if from_jid else None)
    except ServiceError as error:
        failure = _refused(error, _INVITE_ERRORS)
    except OverQuotaError as error:
        failure = apiproxy_errors.OverQuotaError(str(error))
    raise failure


def send_message(jids, body, from_jid=None, message_type=MESSAGE_TYPE_CHAT, raw_xml=False):
    """Sends a chat message.

    Args:
        jids: The JID of the recipient, or an iterable of JIDs.
        body: The text; with `raw_xml` the XML that stands inside ``<message/>``.
        from_jid: The sender; one of the app's own addresses. Default:
            ``APP_ID@DOMAIN/bot``.
        message_type: One of ``MESSAGE_TYPE_*``.
        raw_xml: Whether `body` is XML.

    Returns:
        NO_ERROR, INVALID_JID or OTHER_ERROR: one for a single JID, for several a
        list in their order. NO_ERROR means that the message was written to the
        server; OTHER_ERROR that it was not, for example because no server is
        connected.

    Raises:
        NoBodyError: `body` is empty.
        InvalidJidError: No recipient is given, one is empty, or `from_jid` is not
            an address of the app.
        InvalidTypeError: `message_type` is none of ``MESSAGE_TYPE_*``.
        InvalidXmlError: `raw_xml` is set and `body` is not well-formed.
        Error: The service failed in another way, for example because the body is
            larger than 100 KB.
        apiproxy_errors.RequestTooLargeError: The call is larger than 1 MiB.
        apiproxy_errors.OverQuotaError: A quota of today is used up; so in all functions.
    """
    if not body:
        raise NoBodyError()
    if not jids:
        raise InvalidJidError()
    message_type = to_str(message_type)
    if message_type not in _VALID_MESSAGE_TYPES:
        raise InvalidTypeError()
    single = isinstance(jids, STRING_TYPES)
    recipients = []
    for jid in [jids] if single else jids:
        if not jid:
            raise InvalidJidError()
        recipients.append(to_str(jid))
    from_jid = to_str(from_jid) if from_jid else None
    statuses = _send(recipients, to_str(body), from_jid, message_type, raw_xml)
    return statuses[0] if single else statuses


def _send(recipients, body, from_jid, message_type, raw_xml):
    try:
        return list(_backend().send_message(recipients, body, from_jid, message_type, raw_xml))
    except ServiceError as error:
        failure = _refused(error, _SEND_MESSAGE_ERRORS)
    except OverQuotaError as error:
        failure = apiproxy_errors.OverQuotaError(str(error))
    except (UnavailableError, DeadlineError) as error:
        # Applications retry for ever when this raises, so it is a status.
        _log.warning("send_message to %d recipients: %s", len(recipients), error)
        return [OTHER_ERROR] * len(recipients)
    except CallTooLargeError as error:
        failure = apiproxy_errors.RequestTooLargeError(str(error))
    raise failure


def send_presence(
    jid,
    status=None,
    from_jid=None,
    presence_type=PRESENCE_TYPE_AVAILABLE,
    presence_show=PRESENCE_SHOW_NONE,
):
    """Sends a presence to a contact.

    Args:
        jid: The JID of the contact.
        status: A text for people, at most `MAX_STATUS_MESSAGE_SIZE` characters.
        from_jid: The sender; one of the app's own addresses. Default:
            ``APP_ID@DOMAIN/bot``.
        presence_type: One of ``PRESENCE_TYPE_*``.
        presence_show: One of ``PRESENCE_SHOW_*``.

    While the server is away the presence is dropped with a warning in the log.

    Raises:
        InvalidJidError: `jid` is empty, or `from_jid` is not an address of the app.
        InvalidTypeError: `presence_type` is none of ``PRESENCE_TYPE_*``.
        InvalidShowError: `presence_show` is none of ``PRESENCE_SHOW_*``.
        InvalidStatusError: `status` is too long.
        Error: The service failed in another way.
    """
    if not jid:
        raise InvalidJidError()
    presence_type, presence_show = to_str(presence_type), to_str(presence_show)
    if presence_type and presence_type not in _VALID_PRESENCE_TYPES:
        raise InvalidTypeError()
    if presence_show and presence_show not in _VALID_PRESENCE_SHOWS:
        raise InvalidShowError()
    if status and len(status) > MAX_STATUS_MESSAGE_SIZE:
        raise InvalidStatusError()
    try:
        return _backend().send_presence(
            to_str(jid),
            presence_type or "",
            presence_show or "",
            to_str(status) if status else None,
            to_str(from_jid) if from_jid else None,
        )
    except ServiceError as error:
        failure = _refused(error, _SEND_PRESENCE_ERRORS)
    except OverQuotaError as error:
        failure = apiproxy_errors.OverQuotaError(str(error))
    except UnavailableError as error:
        _log.warning("send_presence: not sent: %s", error)
        return None
    raise failure


for _function in (get_presence, send_invite, send_message, send_presence):
    # deferred tasks and mocks find a function by the name of its module.
    _function.__module__ = "google.appengine.api.xmpp"
del _function
