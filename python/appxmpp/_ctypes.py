"""The embedded connection over ctypes and libappxmpp, for Pythons without the native module.

`App` and `Delivery` have the interface of ``appxmpp._native``. Text is `str`: on Python 2 bytes
in UTF-8. The library is the one that ``APPXMPP_LIBRARY`` names, else the one beside this file, else
the system's.
"""

import atexit
import collections
import ctypes
import logging
import os
import sys
import threading
import time
import weakref

from appxmpp.errors import (
    CallTooLargeError,
    ConfigError,
    DeadlineError,
    InternalError,
    NotAuthorizedError,
    OverQuotaError,
    ServiceError,
    UnavailableError,
)

# The header's APPXMPP_VERSION_* that the calls below are written for.
_VERSION = (0, 1, 0)
_SONAME = "libappxmpp.so.%d.%d" % _VERSION[:2]

# Signal handlers run between waits of this length, in milliseconds.
_SLICE = 100

_OK, _NOT_CONNECTED, _BUSY, _TIMEOUT, _CONFIG, _NOT_AUTHORIZED, _CLOSED = 0, 9, 10, 11, 12, 13, 14
_REQUEST_TOO_LARGE, _OVER_QUOTA, _NOT_UTF8, _INTERRUPTED = 17, 18, 96, 98
_NO_NUMBER = 2**64 - 1
_FAULTS = (15, 16, 95, 97, 99)

_Handle = ctypes.c_void_p
_Text = ctypes.c_char_p
_Size = ctypes.c_size_t


class _Str(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("len", _Size)]


class _Presence(ctypes.Structure):
    _fields_ = [("available", ctypes.c_bool), ("valid", ctypes.c_bool), ("show", ctypes.c_int32)]


class _Transition(ctypes.Structure):
    _fields_ = [("passes", ctypes.c_bool), ("state", ctypes.c_int32)]


_Error = ctypes.POINTER(_Handle)
_Texts = ctypes.POINTER(_Text)
_Sizes = ctypes.POINTER(_Size)
_Statuses = ctypes.POINTER(ctypes.c_int32)
_Numbers = ctypes.POINTER(ctypes.c_uint64)

_LogCallback = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t
)

_FUNCTIONS = {
    "version_check": (ctypes.c_bool, [ctypes.c_int32] * 3),
    "version": (_Text, []),
    "result_service_error": (ctypes.c_int32, [ctypes.c_int32]),
    "error_text": (_Str, [_Handle]),
    "error_free": (None, [_Handle]),
    "options_new": (ctypes.c_int, [_Error, _Error]),
    "options_set_app_id": (ctypes.c_int, [_Handle, _Text, _Size, _Error]),
    "options_set_version": (ctypes.c_int, [_Handle, _Text, _Size, _Error]),
    "options_set_addresses": (ctypes.c_int, [_Handle, _Text, _Size, _Error]),
    "options_set_secret": (ctypes.c_int, [_Handle, _Text, _Size, _Error]),
    "options_set_state_file": (ctypes.c_int, [_Handle, _Text, _Size, _Error]),
    "options_set_durable": (ctypes.c_int, [_Handle, ctypes.c_bool, _Error]),
    "options_set_quota": (ctypes.c_int, [_Handle, _Text, _Size, ctypes.c_uint64, _Error]),
    "options_set_keepalive": (ctypes.c_int, [_Handle, ctypes.c_uint64, _Error]),
    "options_set_inbound_services": (ctypes.c_int, [_Handle, _Texts, _Sizes, _Size, _Error]),
    "options_set_bodiless_messages": (ctypes.c_int, [_Handle, ctypes.c_bool, _Error]),
    "options_free": (None, [_Handle]),
    "connection_open": (ctypes.c_int, [_Text, _Size, _Handle, _Error, _Error]),
    "connection_wait_ready": (ctypes.c_int, [_Handle, ctypes.c_uint64, _Error]),
    "connection_is_ready": (ctypes.c_bool, [_Handle]),
    "connection_address": (_Str, [_Handle]),
    "connection_stat": (
        ctypes.c_int,
        [_Handle, _Text, _Size, ctypes.POINTER(ctypes.c_uint64), _Error],
    ),
    "stat_name": (_Str, [_Size]),
    "log_set": (ctypes.c_int, [ctypes.c_int32, _LogCallback, _Handle, _Handle, _Error]),
    "connection_next_event": (ctypes.c_int, [_Handle, ctypes.c_uint64, _Error, _Error]),
    "connection_close": (ctypes.c_int, [_Handle, ctypes.c_uint64, _Error]),
    "connection_free": (None, [_Handle]),
    "send_message": (
        ctypes.c_int,
        [_Handle, _Texts, _Sizes, _Size] + [_Text, _Size] * 3 + [ctypes.c_bool, _Statuses, _Error],
    ),
    "send_presence": (ctypes.c_int, [_Handle] + [_Text, _Size] * 5 + [_Statuses, _Error]),
    "send_invite": (ctypes.c_int, [_Handle] + [_Text, _Size] * 2 + [_Statuses, _Error]),
    "get_presence_list": (
        ctypes.c_int,
        [_Handle, _Texts, _Sizes, _Size, _Text, _Size, ctypes.POINTER(_Presence), _Error],
    ),
    "event_id": (ctypes.c_uint64, [_Handle]),
    "event_path": (_Str, [_Handle]),
    "event_service": (_Str, [_Handle]),
    "event_sender": (_Str, [_Handle]),
    "event_field_count": (_Size, [_Handle]),
    "event_field_name": (_Str, [_Handle, _Size]),
    "event_field_value": (_Str, [_Handle, _Size]),
    "event_stanza": (_Handle, [_Handle]),
    "event_done": (ctypes.c_int, [_Handle, ctypes.c_bool, _Error]),
    "event_free": (None, [_Handle]),
    "stanza_attribute": (_Str, [_Handle, _Text, _Size]),
    "subscription_next": (
        ctypes.c_int,
        [ctypes.c_int32, ctypes.c_bool, _Text, _Size, ctypes.POINTER(_Transition), _Error],
    ),
}


def _candidates():
    named = os.environ.get("APPXMPP_LIBRARY")
    if named:
        return [named]
    here = os.path.dirname(os.path.abspath(__file__))
    return [os.path.join(here, "libappxmpp.so"), _SONAME]


def _load():
    """The library; ImportError says where it was looked for."""
    tried = []
    for path in _candidates():
        try:
            library = ctypes.CDLL(path)
        except OSError as error:
            tried.append(str(error))
            continue
        for name, (result, arguments) in _FUNCTIONS.items():
            try:
                function = getattr(library, "appxmpp_" + name)
            except AttributeError:
                raise ImportError(
                    "%s is no libappxmpp of version %d.%d: it has no appxmpp_%s"
                    % ((path,) + _VERSION[:2] + (name,))
                )
            function.restype, function.argtypes = result, arguments
        if not library.appxmpp_version_check(*_VERSION):
            raise ImportError(
                "%s is libappxmpp %s; this package needs %d.%d.%d"
                % ((path, _native(library.appxmpp_version())) + _VERSION)
            )
        return library
    raise ImportError("libappxmpp cannot be loaded: %s" % "; ".join(tried))


if sys.version_info[0] >= 3:

    def _utf8(text):
        if not isinstance(text, str):
            raise TypeError("expected str, not %s" % type(text).__name__)
        return text.encode("utf-8")

    def _native(data):
        return data.decode("utf-8")

else:

    def _utf8(text):
        if isinstance(text, unicode):  # noqa: F821
            return text.encode("utf-8")
        if not isinstance(text, str):
            raise TypeError("expected str, not %s" % type(text).__name__)
        return text

    def _native(data):
        return data


_library = _load()
__version__ = _native(_library.appxmpp_version())


def _lent(text):
    return _native(ctypes.string_at(text.data, text.len))


def _pair(text):
    """The two arguments of a text; None gives NULL."""
    if text is None:
        return None, 0
    data = _utf8(text)
    return data, len(data)


def _array(texts):
    """The three arguments of a list of texts."""
    data = [_utf8(text) for text in texts]
    count = len(data)
    return (_Text * count)(*data), (_Size * count)(*[len(one) for one in data]), count


def _call(name, *arguments):
    """Calls a function that takes an error last, and raises its failure."""
    failure = _Handle()
    result = getattr(_library, "appxmpp_" + name)(*(arguments + (ctypes.byref(failure),)))
    if result == _OK:
        return
    try:
        text = _lent(_library.appxmpp_error_text(failure))
    finally:
        _library.appxmpp_error_free(failure)
    raise _exception(result, text)


class _Interrupted(Exception):
    pass


def _exception(result, text):
    if result in (_NOT_CONNECTED, _BUSY, _CLOSED):
        return UnavailableError(text)
    if result in _FAULTS:
        return InternalError(text)
    if result == _NOT_UTF8:
        return ValueError(text)
    kinds = {
        _TIMEOUT: DeadlineError,
        _CONFIG: ConfigError,
        _NOT_AUTHORIZED: NotAuthorizedError,
        _REQUEST_TOO_LARGE: CallTooLargeError,
        _OVER_QUOTA: OverQuotaError,
        _INTERRUPTED: _Interrupted,
    }
    if result in kinds:
        return kinds[result](text)
    return ServiceError(_library.appxmpp_result_service_error(result), text)


if hasattr(time, "monotonic"):
    _now = time.monotonic
else:
    _now = time.time


def _in_slices(call, timeout):
    """Whether `call(milliseconds)` came back within `timeout` seconds."""
    end = _now() + timeout
    while True:
        left = end - _now()
        try:
            call(max(0, min(_SLICE, int(left * 1000 + 0.999))))
            return True
        except DeadlineError:
            if _now() >= end:
                return False
        except _Interrupted:
            pass


class _Options(object):
    def __init__(self, texts, inbound_services, bodiless_messages, durable, quotas, keepalive):
        self.handle = _Handle()
        _call("options_new", ctypes.byref(self.handle))
        for name, value in texts.items():
            if value is not None:
                _call("options_set_" + name, self.handle, *_pair(value))
        if inbound_services is not None:
            _call("options_set_inbound_services", self.handle, *_array(inbound_services))
        _call("options_set_bodiless_messages", self.handle, bool(bodiless_messages))
        if durable:
            if texts["state_file"] is None:
                raise ConfigError(
                    "durable is set and there is no state file, so nothing could be kept; name one "
                    "(state= or APPXMPP_STATE), or leave durable out"
                )
            _call("options_set_durable", self.handle, True)
        for name, limit in (quotas or {}).items():
            _call("options_set_quota", self.handle, *(_pair(name) + (limit,)))
        if keepalive is not None:
            _call("options_set_keepalive", self.handle, int(keepalive * 1000))

    def __del__(self, free=_library.appxmpp_options_free):
        free(self.handle)


class App(object):
    """One application on one connection; see ``_native.pyi``. The first use opens it."""

    def __init__(
        self,
        backend,
        secret=None,
        app_id=None,
        inbound_services=None,
        state=None,
        bodiless_messages=False,
        durable=False,
        quotas=None,
        keepalive=None,
        version=None,
        addresses=None,
    ):
        self._backend = _utf8(backend)
        texts = {
            "app_id": app_id,
            "secret": secret,
            "state_file": state,
            "version": version,
            "addresses": addresses,
        }
        self._options = _Options(
            texts, inbound_services, bodiless_messages, durable, quotas, keepalive
        )
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._handle = None

    def _live(self):
        if self._pid != os.getpid():
            raise UnavailableError(
                "this App was made before fork() and belongs to the parent process; "
                "make another in this one"
            )
        with self._lock:
            if self._handle is None:
                handle = _Handle()
                backend = self._backend
                _call(
                    "connection_open",
                    backend,
                    len(backend),
                    self._options.handle,
                    ctypes.byref(handle),
                )
                self._handle = handle
                _opened.add(self)
                _log.start()
            return self._handle

    def __del__(self, free=_library.appxmpp_connection_free, getpid=os.getpid):
        if getattr(self, "_handle", None) is not None and self._pid == getpid():
            free(self._handle)

    def _address(self):
        return _lent(_library.appxmpp_connection_address(self._live())).partition("/")[0]

    @property
    def app_id(self):
        """The application id."""
        return self._address().partition("@")[0]

    @property
    def domain(self):
        """The component's domain."""
        return self._address().partition("@")[2]

    def wait_ready(self, timeout):
        """Wait up to `timeout` seconds for a stream to be up; whether one is."""
        handle = self._live()
        return _in_slices(lambda slice: _call("connection_wait_ready", handle, slice), timeout)

    def send_message(self, jids, body, from_jid, message_type, raw_xml):
        """Send a message to each of `jids`; a status for each."""
        to = _array(jids)
        statuses = (ctypes.c_int32 * max(to[2], 1))()
        arguments = to + _pair(body) + _pair(from_jid) + _pair(message_type)
        arguments += (bool(raw_xml), statuses)
        _call("send_message", self._live(), *arguments)
        return list(statuses[: to[2]])

    def send_presence(self, jid, presence_type, show, status, from_jid):
        """Send a presence; an empty type is available."""
        arguments = _pair(jid) + _pair(presence_type) + _pair(show)
        arguments += _pair(status) + _pair(from_jid) + (None,)
        _call("send_presence", self._live(), *arguments)

    def send_invite(self, jid, from_jid):
        """Ask `jid` for a subscription."""
        status = ctypes.c_int32()
        arguments = _pair(jid) + _pair(from_jid) + (ctypes.byref(status),)
        _call("send_invite", self._live(), *arguments)
        if status.value:
            raise UnavailableError("no stream is up, so nobody was asked; ask again later")

    def get_presence(self, jids, from_jid):
        """For each of `jids`: available, App Engine's SHOW number or None, is an address."""
        asked = _array(jids)
        found = (_Presence * max(asked[2], 1))()
        arguments = asked + _pair(from_jid) + (found,)
        _call("get_presence_list", self._live(), *arguments)
        answers = found[: asked[2]]
        return [(one.available, None if one.show < 0 else one.show, one.valid) for one in answers]

    def next_batch(self, max, timeout):
        """Take up to `max` deliveries, each of a different sender, waiting for the first."""
        batch = []
        while len(batch) < max:
            try:
                event = self._next(0 if batch else timeout)
            except UnavailableError:
                if batch:
                    break
                # Where the connection knows why, its reason is better.
                self.wait_ready(0)
                raise
            if event is None:
                break
            batch.append(Delivery(event, self))
        return batch

    def _next(self, timeout):
        handle, event = self._live(), _Handle()

        def take(slice):
            _call("connection_next_event", handle, slice, ctypes.byref(event))

        return event if _in_slices(take, timeout) else None

    def done(self, delivery, status):
        """`delivery` has been handled; the app answered with the HTTP status `status`."""
        delivery._end(200 <= status < 400)

    def close(self, timeout):
        """Wait for deliveries under way, tell contacts, end the stream: in `timeout` seconds."""
        if self._handle is not None and self._pid == os.getpid():
            _call("connection_close", self._handle, int(timeout * 1000))

    def stats(self):
        """Numbers about the connection, its deliveries and quotas; see ``_native.pyi``."""
        handle, number, index = self._live(), ctypes.c_uint64(), 0
        found = {}
        while True:
            name = _lent(_library.appxmpp_stat_name(index))
            if not name:
                return found
            _call("connection_stat", handle, *(_pair(name) + (ctypes.byref(number),)))
            if number.value != _NO_NUMBER:
                found[name] = int(number.value)
            index += 1


class Delivery(object):
    """An inbound stanza on its way to the app; see ``_native.pyi``."""

    def __init__(self, event, app):
        self._event = event
        # An event outlives its connection, but not the library's reason to wait for it.
        self._app = app
        self._lock = threading.Lock()
        library = _library
        self.id = library.appxmpp_event_id(event)
        self.path = _lent(library.appxmpp_event_path(event))
        self.service = _lent(library.appxmpp_event_service(event))
        self.sender = _lent(library.appxmpp_event_sender(event))
        self.fields = [
            (
                _lent(library.appxmpp_event_field_name(event, i)),
                _lent(library.appxmpp_event_field_value(event, i)),
            )
            for i in range(library.appxmpp_event_field_count(event))
        ]
        stanza = library.appxmpp_event_stanza(event)
        self.stanza_id = _lent(library.appxmpp_stanza_attribute(stanza, b"id", 2)) or None

    def _end(self, handled):
        with self._lock:
            event, self._event = self._event, None
        if event is not None:
            _call("event_done", event, handled)
            _library.appxmpp_event_free(event)

    def __del__(self, free=_library.appxmpp_event_free):
        if getattr(self, "_event", None) is not None:
            free(self._event)

    def __repr__(self):
        return "<Delivery %d to %s from %s>" % (self.id, self.path, self.sender)


def subscription_next(state, inbound, kind):
    """Whether a presence of type `kind` passes, and the state afterwards; see ``_native.pyi``."""
    found = _Transition()
    _call("subscription_next", state, bool(inbound), *(_pair(kind) + (ctypes.byref(found),)))
    return found.passes, found.state


# The header's APPXMPP_LOG_*, from off on, and a level of `logging` for each.
_LOG_OFF = 0
_LOG_LEVELS = (None, logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)


class _Log(object):
    """Brings what the library says to `logging`: `appxmpp.net`, `appxmpp.store`, ...

    The library calls from whatever thread has something to say, which may hold a lock of its own:
    there it is only kept, and a thread of this process hands it to `logging`.
    """

    # How long a change of the logger's level, or a record, may go unnoticed, in seconds.
    _PAUSE = 0.2

    def __init__(self):
        self._pid = None
        self._kept = collections.deque(maxlen=1024)
        self._callback = _LogCallback(self._said)
        self._level = _LOG_OFF
        self._end = threading.Event()
        self._thread = None

    def _said(self, _userdata, level, source, text, length):
        self._kept.append((level, source, ctypes.string_at(text, length)))

    def start(self):
        """Start, once in a process. It ends with the interpreter."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._kept.clear()
        self._level = _LOG_OFF
        self._end = threading.Event()
        self._look()
        self._thread = threading.Thread(target=self._work, args=(self._end,), name="appxmpp-log")
        self._thread.daemon = True
        self._thread.start()

    def _look(self):
        """Has the library say what the logger wants to hear."""
        wanted = logging.getLogger("appxmpp").getEffectiveLevel()
        level = max(
            [_LOG_OFF] + [n for n, known in enumerate(_LOG_LEVELS) if known and known >= wanted]
        )
        if level != self._level:
            self._set(level)

    def _set(self, level):
        callback = self._callback if level else ctypes.cast(None, _LogCallback)
        _call("log_set", level, callback, None, None)
        self._level = level

    def _work(self, end):
        while not end.is_set():
            end.wait(self._PAUSE)
            self._look()
            self._hand_on()

    def _hand_on(self):
        while self._kept:
            level, source, text = self._kept.popleft()
            number = _LOG_LEVELS[min(level, len(_LOG_LEVELS) - 1)]
            source = _native(source).replace("::", ".")
            logging.getLogger("appxmpp." + source).log(number, "%s", _native(text))

    def stop(self):
        """End it; what was said is handed on."""
        if self._pid == os.getpid() and not self._end.is_set():
            self._end.set()
            self._set(_LOG_OFF)
            # The interpreter does not wait for it, and would take what it works with from it.
            self._thread.join(5)
            self._hand_on()


_log = _Log()
_opened = weakref.WeakSet()


@atexit.register
def _close_all():
    for app in list(_opened):
        try:
            app.close(2.0)
        except Exception as error:
            sys.stderr.write("appxmpp: %s\n" % error)
    _log.stop()
