"""Lets a gateway's webhooks in, and nobody else.

``from appxmpp import middleware; app = middleware(app)`` protects a WSGI
application. `wsgi(app)`, which is the same, and `asgi(app)` wrap an application:
a request below ``/_ah/xmpp/`` reaches it only with a valid ``Appxmpp-Signature``,
as `appxmpp gateway` makes them; everybody else gets 403. A delivery that the
application has answered with 2xx before is answered again without calling it.

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
    """Checks signatures, and remembers what was handled."""

    def __init__(self, secret=None, paths=PATHS, tolerance=TOLERANCE, clock=time.time):
        key = secret_from(os.environ) if secret is None else secret
        self._key = key if isinstance(key, bytes) else key.encode("utf-8")
        self._paths = tuple(paths)
        self._tolerance = tolerance
        self._clock = clock
        self._handled = collections.OrderedDict()
        self._lock = threading.Lock()

    def protects(self, path):
        """Whether a request for `path` needs a signature, however it is spelt."""
        plain = re.sub("/+", "/", path).lower()
        return any(plain.startswith(prefix.lower().rstrip("/")) for prefix in self._paths)

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

    def is_handled(self, delivery):
        with self._lock:
            return delivery in self._handled

    def handled(self, delivery):
        with self._lock:
            self._handled[delivery] = True
            while len(self._handled) > REMEMBERED:
                self._handled.popitem(last=False)


def wsgi(app, secret=None, **options):
    """`app`, protected (PEP 3333)."""
    verifier = Verifier(secret, **options)

    def protected(environ, start_response):
        if not verifier.protects(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")):
            return app(environ, start_response)
        body = _read(environ)
        delivery = environ.get("HTTP_APPXMPP_DELIVERY", "")
        if body is None:
            return _answer(start_response, "413 Payload Too Large")
        if not verifier.accepts(environ.get("HTTP_APPXMPP_SIGNATURE"), delivery, body):
            return _answer(start_response, "403 Forbidden")
        if verifier.is_handled(delivery):
            return _answer(start_response, "200 OK")
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        environ["REMOTE_ADDR"] = REMOTE_ADDR
        environ["HTTP_X_APPENGINE_FAKE_IS_ADMIN"] = "1"
        environ["USER_IS_ADMIN"] = "1"

        def remember(status, headers, exc_info=None):
            if status.startswith("2"):
                verifier.handled(delivery)
            if exc_info is None:
                return start_response(status, headers)
            return start_response(status, headers, exc_info)

        return app(environ, remember)

    return protected


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


def _answer(start_response, status):
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", "0")])
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
