"""Lets a gateway's webhooks in, and nobody else.

``from appxmpp import middleware; app = middleware(app)`` protects a WSGI
application. `wsgi(app)`, which is the same, and `asgi(app)` wrap an application:
a request below ``/_ah/xmpp/``, wherever the application is mounted, reaches it only
with a valid ``Appxmpp-Signature``, as `appxmpp gateway` makes them; everybody else
gets 403. A delivery that the application has answered with 2xx before, in this
process, is answered again without calling it; one that it is still busy with gets 503.

The key is the gateway's ``webhook_secret``, here in ``APPXMPP_WEBHOOK_SECRET``
(or ``APPXMPP_WEBHOOK_SECRET_FILE``); without it, the component's secret in
``APPXMPP_SECRET`` or ``APPXMPP_SECRET_FILE``.
"""

import collections
import hashlib
import hmac
import io
import os
import re
import sys
import threading
import time
import types

try:
    from urllib.parse import unquote
except ImportError:  # Python 2
    from urllib import unquote as _unquote

    def unquote(text, encoding):
        return _unquote(text)


from appxmpp.errors import ConfigError

#: Seconds that the clocks of gateway and application may differ.
TOLERANCE = 300
#: The longest delivery, in bytes.
MAX_BODY = 8 * 1024 * 1024
#: How many handled deliveries are remembered.
REMEMBERED = 10000
#: The address App Engine called from.
REMOTE_ADDR = "0.1.0.10"

PATHS = ("/_ah/xmpp/",)

#: Seconds after which a delivery may come again that the application is busy with.
BUSY_RETRY = 5
#: What `Verifier.begin` finds.
NEW, BUSY, HANDLED = "new", "busy", "handled"

# A path encoded more often than this is no honest one, and each decoding costs its length.
_ENCODINGS = 8


def secret_from(environ):
    """The key that the environment names."""
    for name in ("APPXMPP_WEBHOOK_SECRET", "APPXMPP_SECRET"):
        if environ.get(name):
            return environ[name]
        path = environ.get(name + "_FILE")
        if path:
            try:
                with open(path) as file:
                    return file.read().rstrip("\r\n")
            except (IOError, OSError) as error:
                raise ConfigError(
                    "%s_FILE names %r, which cannot be read (%s)" % (name, path, error)
                )
    raise ConfigError(
        "there is no key to check webhooks with; put the gateway's webhook_secret into "
        "APPXMPP_WEBHOOK_SECRET, or its component's secret into APPXMPP_SECRET"
    )


class Verifier(object):
    """Checks signatures, and remembers what is being handled and what was."""

    def __init__(self, secret=None, paths=PATHS, tolerance=TOLERANCE, clock=time.time):
        key = secret_from(os.environ) if secret is None else secret
        self._key = key if isinstance(key, bytes) else key.encode("utf-8")
        self._paths = [("/" + _fold(path).strip("/")).rstrip("/") for path in paths]
        self._tolerance = tolerance
        self._clock = clock
        self._busy = set()
        self._handled = collections.OrderedDict()
        self._lock = threading.Lock()

    def protects(self, path):
        """Whether some reading of `path` leads to or through what needs a signature.

        The application may be mounted below anything, so a protected path counts wherever it
        stands: encoded, doubled, dotted, with parameters or in capitals.
        """
        plain = _decoded(path)
        if plain is None or "" in self._paths:
            return True
        passed = []
        for name in re.split(r"[/\\]", plain):
            name = re.sub("[\x00-\x20\x7f-\xa0]", "", _fold(name).partition(";")[0])
            if name == "..":
                del passed[-1:]
            elif name not in ("", "."):
                passed.append(name)
            # Not every application resolves dots before it routes, so each state on the way counts.
            if any(_ends_within(passed, protected) for protected in self._paths):
                return True
        return False

    def accepts(self, signature, delivery, body):
        """Whether `signature` is the gateway's, for this delivery, body and time."""
        parts = dict(part.strip().partition("=")[::2] for part in (signature or "").split(","))
        stamp, given = parts.get("t", ""), parts.get("v1", "")
        # What does not look like ours is compared with nothing.
        ours = re.match("^[0-9]{1,15}$", stamp) and re.match("^[0-9a-f]{64}$", given)
        if not ours or not re.match("^[A-Za-z0-9-]{1,64}$", delivery or ""):
            return False
        if abs(self._clock() - int(stamp)) > self._tolerance:
            return False
        head = "%s.%s." % (stamp, delivery)
        expected = hmac.new(self._key, head.encode("utf-8") + body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(expected, str(given))

    def begin(self, delivery):
        """What is known of `delivery`; a `NEW` one is under way from now on, until `end`."""
        with self._lock:
            if delivery in self._handled:
                return HANDLED
            if delivery in self._busy:
                return BUSY
            self._busy.add(delivery)
            return NEW

    def end(self, delivery, handled):
        """`delivery` is under way no longer; if it was not handled, it may come again."""
        with self._lock:
            self._busy.discard(delivery)
            if handled:
                self._handled[delivery] = True
            while len(self._handled) > REMEMBERED:
                self._handled.popitem(last=False)


def _fold(text):
    """`text` as it compares without regard to case."""
    return text.upper().lower()


def _decoded(path):
    """`path` without percent signs that mean something; None if there is no end of them."""
    for _ in range(_ENCODINGS):
        decoded = unquote(path, "latin-1")
        if decoded == path:
            return path
        path = decoded
    return None


def _ends_within(names, protected):
    """Whether the last of `names` are `protected`, or the last of them begins so."""
    last = names[-protected.count("/") :]
    return ("/" + "/".join(last)).startswith(protected)


def wsgi(app, secret=None, **options):
    """`app`, protected (PEP 3333)."""
    verifier = Verifier(secret, **options)

    def protected(environ, start_response):
        mount, path = environ.get("SCRIPT_NAME", ""), environ.get("PATH_INFO", "")
        if not verifier.protects(path) and not verifier.protects(mount + path):
            return app(environ, start_response)
        body = _read(environ)
        delivery = environ.get("HTTP_APPXMPP_DELIVERY", "")
        if body is None:
            return _answer(start_response, "413 Payload Too Large")
        if not verifier.accepts(environ.get("HTTP_APPXMPP_SIGNATURE"), delivery, body):
            return _answer(start_response, "403 Forbidden")
        known = verifier.begin(delivery)
        if known == HANDLED:
            return _answer(start_response, "200 OK")
        if known == BUSY:
            again = ("Retry-After", str(BUSY_RETRY))
            return _answer(start_response, "503 Service Unavailable", again)
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        environ["REMOTE_ADDR"] = REMOTE_ADDR
        environ["HTTP_X_APPENGINE_FAKE_IS_ADMIN"] = "1"
        environ["USER_IS_ADMIN"] = "1"
        return _Response(verifier, delivery, start_response).of(app, environ)

    return protected


class _Response(object):
    """What the application answers; the delivery is under way until that ends."""

    def __init__(self, verifier, delivery, start_response):
        self._verifier, self._delivery = verifier, delivery
        self._start_response = start_response
        self._succeeded = self._ended = False
        self._body = ()

    def of(self, app, environ):
        """The body, of which a list is done with when it is there."""
        try:
            self._body = app(environ, self._start)
        except BaseException:
            self._end(False)
            raise
        if not isinstance(self._body, (list, tuple)):
            return self
        self._end(self._succeeded)
        return self._body

    def _start(self, status, headers, exc_info=None):
        self._succeeded = status.startswith("2")
        if exc_info is None:
            return self._start_response(status, headers)
        return self._start_response(status, headers, exc_info)

    def __iter__(self):
        try:
            for part in self._body:
                yield part
        except GeneratorExit:
            raise
        except BaseException:
            self._end(False)
            raise

    def close(self):
        handled = False
        try:
            if hasattr(self._body, "close"):
                self._body.close()
            handled = self._succeeded
        finally:
            self._end(handled)

    def _end(self, handled):
        if not self._ended:
            self._ended = True
            self._verifier.end(self._delivery, handled)


def _read(environ):
    """The body, or None if it is too long or of unknown length."""
    try:
        length = int(environ.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return None
    if not 0 <= length <= MAX_BODY:
        return None
    body = environ["wsgi.input"].read(length)
    return body if len(body) == length else None


def _answer(start_response, status, *headers):
    plain = [("Content-Type", "text/plain"), ("Content-Length", "0")]
    plain.extend(headers)
    start_response(status, plain)
    return [b""]


def asgi(app, secret=None, **options):
    """`app`, protected (ASGI 3)."""
    from appxmpp.middleware_asgi import protect

    return protect(app, Verifier(secret, **options))


middleware = wsgi


class _Module(types.ModuleType):
    """This module, callable."""

    def __call__(self, app, secret=None, **options):
        return wsgi(app, secret, **options)


def _make_callable(module):
    try:
        module.__class__ = _Module
    except TypeError:
        # Python 2 puts another module in its place; the first keeps the functions' globals alive.
        other = _Module(module.__name__)
        other.__dict__.update(module.__dict__, _first=module)
        sys.modules[module.__name__] = other


_make_callable(sys.modules[__name__])
