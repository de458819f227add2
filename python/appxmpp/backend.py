"""Where calls of the API go.

``APPXMPP_BACKEND`` chooses, when the first call needs it and not before::

    component://DOMAIN:SECRET@HOST[:PORT]       an XMPP server (XEP-0114)
    component+unix://DOMAIN:SECRET@/path/to.sock
    component+tls://DOMAIN:SECRET@HOST[:PORT]   the same over TLS
    client://NAME:PASSWORD@DOMAIN[:PORT]        an ordinary account
    http://DOMAIN:SECRET@HOST:PORT/             a gateway (or http+unix://DOMAIN:SECRET@/path)
    stub:                                       prints, sends nothing (the default)
    none:                                       every call fails as with no service

The secret may be left out of the address and given in ``APPXMPP_SECRET`` or in
the file that ``APPXMPP_SECRET_FILE`` names.

A connection of this process also heeds ``APPXMPP_STATE`` (a file that keeps
subscriptions and presence), ``APPXMPP_DURABLE=1`` (and messages until the server
has read them), ``APPXMPP_QUOTAS`` (what may be used in a day, such as
``invitations_sent=100000,recipients_messaged=5000``) and ``APPXMPP_KEEPALIVE``
(after how many seconds of silence the server is asked whether it is there; 0
for never). ``APPXMPP_APP_VERSION`` says which version of the app this is, whose
component is called VERSION.latest.DOMAIN, and ``APPXMPP_ADDRESSES=appengine`` shows
the app its own addresses as App Engine did.
"""

import os
import threading

from appxmpp.app_id import application_id
from appxmpp.errors import ConfigError

# How long the first call waits for a connection that it has opened, in seconds.
FIRST_CALL_WAIT = 10.0


class Backend(object):
    """What the API asks of a place that stanzas go to.

    Text is `str`: on Python 2 bytes in UTF-8. A refused call raises
    `appxmpp.errors.ServiceError`; a server that is away raises
    `appxmpp.errors.UnavailableError`.
    """

    def send_message(self, jids, body, from_jid, message_type, raw_xml):
        """One status (0, 1 or 2) for each of `jids`, in their order."""
        raise NotImplementedError

    def send_presence(self, jid, presence_type, show, status, from_jid):
        """Sends a presence; an empty type is "available"."""
        raise NotImplementedError

    def send_invite(self, jid, from_jid):
        """Asks `jid` for a subscription."""
        raise NotImplementedError

    def get_presence(self, jids, from_jid):
        """One ``(available, show number or None, valid or None)`` for each of `jids`."""
        raise NotImplementedError

    def is_available(self):
        """Whether a message sent now would leave at once."""
        return True

    def close(self, timeout=5.0):
        """Lets go of what the backend holds; it is not used afterwards."""


class NoBackend(Backend):
    """Fails every call as App Engine did where no service was registered."""

    def _fail(self, *_arguments):
        raise AssertionError('No api proxy found for service "xmpp"')

    send_message = send_presence = send_invite = get_presence = _fail

    def is_available(self):
        return False


class Embedded(Backend):
    """A connection of this process, kept by the native module."""

    def __init__(self, app, wait=FIRST_CALL_WAIT):
        self.app = app
        self._wait = wait

    @classmethod
    def open(cls, address, environ):
        """Opens the connection that `address` describes, without waiting for it."""
        try:
            from appxmpp import _native
        except ImportError as error:
            _native = _over_ctypes(error)
        # Nobody takes deliveries here: presence is kept, messages are dropped.
        arguments = dict(settings(environ), inbound_services=[])
        arguments.update(
            secret=secret(environ),
            app_id=application_id(environ) or None,
            state=environ.get("APPXMPP_STATE") or None,
        )
        app = _native.App(address, **arguments)
        return cls(app)

    def _ready_app(self):
        if self._wait:
            wait, self._wait = self._wait, 0
            self.app.wait_ready(wait)
        return self.app

    def send_message(self, jids, body, from_jid, message_type, raw_xml):
        app = self._ready_app()
        return app.send_message(jids, body, from_jid, message_type, bool(raw_xml))

    def send_presence(self, jid, presence_type, show, status, from_jid):
        self._ready_app().send_presence(jid, presence_type, show, status, from_jid)

    def send_invite(self, jid, from_jid):
        self._ready_app().send_invite(jid, from_jid)

    def get_presence(self, jids, from_jid):
        return self._ready_app().get_presence(jids, from_jid)

    def is_available(self):
        try:
            return bool(self.app.wait_ready(self._wait))
        except ConfigError:
            return False
        finally:
            self._wait = 0

    def close(self, timeout=5.0):
        self.app.close(timeout)


def _over_ctypes(native_error):
    try:
        from appxmpp import _ctypes
    except ImportError as error:
        raise ConfigError(
            "APPXMPP_BACKEND asks for a connection, but neither the native module (%s) nor "
            "libappxmpp (%s) can be loaded; install a wheel of appxmpp made for this Python, or "
            "set APPXMPP_BACKEND=stub:" % (native_error, error)
        )
    return _ctypes


def from_environment(environ=None):
    """A new backend as ``APPXMPP_BACKEND`` describes it."""
    if environ is None:
        environ = os.environ
    address = environ.get("APPXMPP_BACKEND", "").strip() or "stub:"
    scheme = address.partition(":")[0]
    if address == "stub:":
        from appxmpp.devstub import Stub

        return Stub()
    if address == "none:":
        return NoBackend()
    if scheme in ("component", "component+tls", "component+unix", "client"):
        return Embedded.open(address, environ)
    if scheme in ("http", "https", "http+unix"):
        from appxmpp.gateway_backend import open_backend

        return open_backend(address, secret(environ))
    # The address may hold a secret: only its scheme is repeated.
    raise ConfigError(
        "APPXMPP_BACKEND begins with %r, which is no kind of backend; write "
        "component://DOMAIN:SECRET@HOST, component+tls://DOMAIN:SECRET@HOST, "
        "component+unix://DOMAIN:SECRET@/path, client://LOCALPART:PASSWORD@DOMAIN, or stub:"
        % scheme
    )


def settings(environ):
    """The settings of a connection that the environment makes, as arguments of an App."""
    return {
        "durable": durable(environ.get("APPXMPP_DURABLE", "")),
        "quotas": quotas(environ.get("APPXMPP_QUOTAS", "")),
        "keepalive": keepalive(environ.get("APPXMPP_KEEPALIVE", "")),
        "version": environ.get("APPXMPP_APP_VERSION") or None,
        "addresses": environ.get("APPXMPP_ADDRESSES") or None,
    }


def durable(text):
    """Whether a text says yes."""
    if text.strip().lower() not in ("", "0", "1", "no", "yes", "false", "true"):
        raise ConfigError("APPXMPP_DURABLE is %r; set it to 1, or to 0" % text)
    return text.strip().lower() in ("1", "yes", "true")


def quotas(text):
    """The limits of a text like ``api_calls=1000,invitations_sent=10``, or None."""
    limits = {}
    for entry in filter(None, (entry.strip() for entry in text.split(","))):
        name, _, limit = entry.partition("=")
        if not limit.strip().isdigit():
            raise ConfigError(
                "the quota %r is not NAME=NUMBER; write one like invitations_sent=100000" % entry
            )
        limits[name.strip()] = int(limit)
    return limits or None


def keepalive(text):
    """The seconds in a text, or None where there is none."""
    if not text.strip():
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86400:
        raise ConfigError(
            "the keepalive %r is not a number of seconds from 0 (never) to 86400" % text
        )
    return seconds


def secret(environ):
    """What ``APPXMPP_SECRET`` or the file ``APPXMPP_SECRET_FILE`` holds, or None."""
    given = environ.get("APPXMPP_SECRET")
    path = environ.get("APPXMPP_SECRET_FILE")
    if given or not path:
        return given or None
    try:
        with open(path) as file:
            given = file.read().strip()
    except (IOError, OSError, ValueError) as error:
        raise ConfigError(
            "APPXMPP_SECRET_FILE names %r, which cannot be read (%s); "
            "give a readable text file that holds the secret alone" % (path, error)
        )
    if not given:
        raise ConfigError("APPXMPP_SECRET_FILE names %r, which is empty" % path)
    return given


class _Current(object):
    """The backend of this process, and which process that is."""

    def __init__(self):
        self.lock = threading.Lock()
        self.backend = None
        self.pid = None
        self.chosen = False
        # A backend made before fork() is kept, never used: its threads are not here.
        self.inherited = []

    def get(self):
        backend, pid = self.backend, os.getpid()
        if backend is not None and self.pid == pid:
            return backend
        with self.lock:
            if self.backend is None or self.pid != pid:
                self._replace_inherited()
                if self.backend is None:
                    self.backend = from_environment()
                self.pid = pid
            return self.backend

    def _replace_inherited(self):
        if not isinstance(self.backend, Embedded):
            return
        if self.chosen:
            raise ConfigError(
                "this process was forked from one that holds the connection to the XMPP "
                "server, and cannot use it; fork before the connection is opened, or give "
                "this process a backend of its own with appxmpp.backend.set()"
            )
        self.inherited.append(self.backend)
        self.backend = None

    def set(self, backend):
        with self.lock:
            previous = self.backend
            self.backend, self.pid = backend, os.getpid()
            self.chosen = backend is not None
        return previous


_current = _Current()


def _after_fork_in_child():
    # Another thread of the parent may have held it.
    _current.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def get():
    """The backend of this process; the first call makes it."""
    return _current.get()


def set(backend):
    """Uses `backend` from now on and returns the one before it.

    None forgets the present one: the next call reads ``APPXMPP_BACKEND`` anew.
    """
    return _current.set(backend)
