"""A chat message that a user sent to the app."""

import sys

from appxmpp.appengine.api import MESSAGE_TYPE_CHAT, send_message
from appxmpp.appengine.text import to_str
from appxmpp.errors import InvalidMessageError

if sys.version_info[0] >= 3:
    _given = to_str
else:

    def _given(value):
        return value


class Message(object):
    """Sender, recipient and body of an inbound chat message.

    The attributes are ``_Message__sender`` and so on, whatever module this class
    lives in: subclasses that are called Message as well set them directly.
    """

    __command = None
    __arg = None

    def __init__(self, vars):
        """Takes the message out of a request's form.

        Args:
            vars: A mapping with the keys ``from``, ``to`` and ``body``.

        Raises:
            InvalidMessageError: A key is missing; its name is the argument.
        """
        self.__sender = _field(vars, "from")
        self.__to = _field(vars, "to")
        self.__body = _field(vars, "body")
        self.__command = None
        self.__arg = None

    @property
    def sender(self):
        """The full JID of the user who wrote the message."""
        return self.__sender

    @property
    def to(self):
        """The address of the app that the user wrote to, as the user wrote it."""
        return self.__to

    @property
    def body(self):
        """The text of the message."""
        return self.__body

    @property
    def command(self):
        """The word after a leading ``/`` or ``\\``, or None if there is no such word."""
        self.__parse()
        return self.__command

    @property
    def arg(self):
        """What follows the command; without a command the whole body. Stripped."""
        self.__parse()
        return self.__arg

    def __parse(self):
        if self.__arg is not None:
            return
        body = _given(self.__body)
        if body.startswith("\\"):
            body = "/" + body[1:]
        if not body.startswith("/"):
            self.__arg = body.strip()
            return
        command, _space, arg = body.partition(" ")
        self.__command = command[1:]
        self.__arg = arg.strip()

    def reply(
        self,
        body,
        message_type=MESSAGE_TYPE_CHAT,
        raw_xml=False,
        send_message=send_message,
    ):
        """Answers the sender, from the address that the message was sent to.

        Args:
            body: The text, or XML with `raw_xml`.
            message_type: One of ``MESSAGE_TYPE_*``.
            raw_xml: Whether `body` is XML.
            send_message: What sends; for tests.

        Returns:
            A list with one status, as `send_message` gives for a list.

        Raises:
            What `send_message` raises.
        """
        return send_message(
            [self.sender],
            body,
            from_jid=self.to,
            message_type=message_type,
            raw_xml=raw_xml,
        )


def _field(vars, name):
    try:
        return _given(vars[name])
    except KeyError:
        pass
    raise InvalidMessageError(name)


Message.__module__ = "google.appengine.api.xmpp"
