"""The requests, responses and enums of App Engine's XMPP service."""

from appxmpp.appengine.protocol import Field, Message, message


def _enum(cls, function, values):
    """Puts the constants on `cls`, and the class method that names a number."""
    names = {number: name for name, number in values}

    def name_of(cls, number):
        return names.get(number, "")

    name_of.__name__ = function
    name_of.__doc__ = "The name of a number, or an empty string."
    for name, number in values:
        setattr(cls, name, number)
    setattr(cls, "_%s_NAMES" % function[: -len("_Name")], names)
    setattr(cls, function, classmethod(name_of))


class XmppServiceError(Message):
    """Why the service refused a call."""


_enum(
    XmppServiceError,
    "ErrorCode_Name",
    (
        ("UNSPECIFIED_ERROR", 1),
        ("INVALID_JID", 2),
        ("NO_BODY", 3),
        ("INVALID_XML", 4),
        ("INVALID_TYPE", 5),
        ("INVALID_SHOW", 6),
        ("EXCEEDED_MAX_SIZE", 7),
        ("APPID_ALIAS_REQUIRED", 8),
        ("NONDEFAULT_MODULE", 9),
    ),
)


@message
class PresenceRequest(Message):
    """Asks for the presence of one contact."""

    FIELDS = (Field(1, "jid", str, "", required=True), Field(2, "from_jid", str, ""))


@message
class PresenceResponse(Message):
    """The presence of one contact."""

    FIELDS = (
        Field(1, "is_available", bool, False, required=True),
        Field(2, "presence", int, 0),
        Field(3, "valid", bool, False),
    )


_enum(
    PresenceResponse,
    "SHOW_Name",
    (("NORMAL", 0), ("AWAY", 1), ("DO_NOT_DISTURB", 2), ("CHAT", 3), ("EXTENDED_AWAY", 4)),
)


@message
class BulkPresenceRequest(Message):
    """Asks for the presence of several contacts."""

    FIELDS = (Field(1, "jid", str, repeated=True), Field(2, "from_jid", str, ""))


@message
class BulkPresenceResponse(Message):
    """One presence for each contact asked for."""

    FIELDS = (Field(1, "presence_response", PresenceResponse, repeated=True),)


@message
class XmppMessageRequest(Message):
    """A message to several recipients."""

    FIELDS = (
        Field(1, "jid", str, repeated=True),
        Field(2, "body", str, "", required=True),
        Field(3, "raw_xml", bool, False),
        Field(4, "type", str, "chat"),
        Field(5, "from_jid", str, ""),
    )


@message
class XmppMessageResponse(Message):
    """One status for each recipient."""

    FIELDS = (Field(1, "status", int, repeated=True),)


_enum(
    XmppMessageResponse,
    "XmppMessageStatus_Name",
    (
        ("NO_ERROR", 0),
        ("INVALID_JID", 1),
        ("OTHER_ERROR", 2),
        ("INVALID_XML", 3),
        ("INVALID_TYPE", 4),
    ),
)


@message
class XmppSendPresenceRequest(Message):
    """A presence to one contact."""

    FIELDS = (
        Field(1, "jid", str, "", required=True),
        Field(2, "type", str, ""),
        Field(3, "show", str, ""),
        Field(4, "status", str, ""),
        Field(5, "from_jid", str, ""),
    )


class XmppSendPresenceResponse(Message):
    """Nothing: the presence was accepted."""


@message
class XmppInviteRequest(Message):
    """A subscription request to one contact."""

    FIELDS = (Field(1, "jid", str, "", required=True), Field(2, "from_jid", str, ""))


class XmppInviteResponse(Message):
    """Nothing: the request was accepted."""
