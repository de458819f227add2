"""Everything that can be raised, in two families under one root.

App Engine's own exceptions carry the module name applications know,
``google.appengine.api.xmpp``. The others say what a backend could not do;
``except xmpp.Error`` catches them too, except `CallTooLargeError` and
`OverQuotaError`, which applications see as App Engine's
``apiproxy_errors.RequestTooLargeError`` and ``apiproxy_errors.OverQuotaError``.
"""

_API = "google.appengine.api.xmpp"


class Error(Exception):
    """Base class of every exception of the XMPP API."""

    __module__ = _API

    def __getitem__(self, index):
        """``e[0]`` is ``e.args[0]``, as it was in Python 2."""
        return self.args[index]

    @property
    def message(self):
        """The only argument, or an empty string, as it was in Python 2."""
        return self.args[0] if len(self.args) == 1 else ""


class InvalidJidError(Error):
    """A recipient is empty, or the sender is not an address of this app."""

    __module__ = _API


class InvalidTypeError(Error):
    """The type of a message or presence is not one that App Engine knows."""

    __module__ = _API


class InvalidXmlError(Error):
    """A body sent with ``raw_xml`` is not well-formed XML."""

    __module__ = _API


class NoBodyError(Error):
    """A message has no body."""

    __module__ = _API


class InvalidMessageError(Error):
    """A request lacks a field that a chat message has; ``e.args[0]`` names it."""

    __module__ = _API


class InvalidShowError(Error):
    """The show value of a presence is not one of RFC 6121, section 4.7.2.1."""

    __module__ = _API


class InvalidStatusError(Error):
    """The status text of a presence is longer than 1024 characters."""

    __module__ = _API


class NondefaultModuleError(Error):
    """The service refused a module other than the default one."""

    __module__ = _API

    def __init__(self):
        super(NondefaultModuleError, self).__init__("XMPP API does not support modules")

    def __reduce__(self):
        return (type(self), ())


class ServiceError(Error):
    """The service refused a call.

    `code` is a number of App Engine's ``XmppServiceError`` (1 to 9); the API
    turns it into the exception that App Engine raised for that function.
    """

    def __init__(self, code, text=""):
        super(ServiceError, self).__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self):
        return self.text or "the XMPP service answered with error %s" % (self.code,)


class UnavailableError(Error):
    """No stream to the server is up, or its queue is full. Try later."""


class DeadlineError(Error):
    """No answer came in the time allowed."""


class ConfigError(Error):
    """A setting is missing or wrong."""


class NotAuthorizedError(ConfigError):
    """The server refused the credentials, twice; trying again will not help."""


class InternalError(Error):
    """A fault of appxmpp or of its state store. Please report it."""


class CallTooLargeError(Exception):
    """One call is larger than 1 MiB, recipients and body together."""


class OverQuotaError(Exception):
    """A quota of today is used up; the text says which."""
