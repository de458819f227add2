"""The backend that speaks to a gateway, or to Prosody's mod_rest, over HTTP.

    http://DOMAIN:SECRET@HOST:PORT/             `appxmpp gateway`
    http+unix://DOMAIN:SECRET@/path/to.sock     the same, on a Unix socket
    https://DOMAIN:SECRET@HOST:PORT/rest        Prosody's mod_rest

An empty DOMAIN makes SECRET a bearer token. Every thread keeps one connection.
"""

# Python 2 would look for the module http beside this one.
from __future__ import absolute_import

import base64
import json
import os
import socket
import threading
import time

from appxmpp.errors import (
    CallTooLargeError,
    ConfigError,
    InternalError,
    NotAuthorizedError,
    ServiceError,
    UnavailableError,
)

try:
    from http.client import HTTPConnection, HTTPException, HTTPSConnection
    from urllib.parse import unquote
except ImportError:  # Python 2
    from urllib import unquote

    from httplib import HTTPConnection, HTTPException, HTTPSConnection

from xml.sax.saxutils import escape, quoteattr

from appxmpp.backend import Backend

#: Seconds that a call may take.
TIMEOUT = 30.0
#: Seconds after which a connection is not used again: the gateway closes idle ones.
IDLE = 8.0

_FORMS = (
    "write http://DOMAIN:SECRET@HOST:PORT/, http+unix://DOMAIN:SECRET@/path/to.sock, "
    "or https://DOMAIN:SECRET@HOST:PORT/rest for a mod_rest"
)


class _UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path, timeout):
        HTTPConnection.__init__(self, "localhost", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Address(object):
    """What an address says, taken apart."""

    def __init__(self, text, secret=None):
        scheme, separator, rest = text.partition("://")
        if not separator or scheme not in ("http", "https", "http+unix"):
            raise ConfigError("%r is no scheme of a gateway; %s" % (scheme, _FORMS))
        user, at, place = rest.rpartition("@")
        self.domain, colon, given = user.partition(":")
        self.secret = unquote(given) if colon else secret
        self.scheme = scheme
        self.path = "/"
        if scheme == "http+unix":
            self.place = place
            if not place.startswith("/"):
                raise ConfigError("http+unix needs the path of a socket; %s" % _FORMS)
        else:
            self.place, _, path = place.partition("/")
            self.path = "/" + path
            if not self.place:
                raise ConfigError("the address of the gateway names no host; %s" % _FORMS)
        if not self.secret or (at and not user):
            raise ConfigError(
                "there is no secret for the gateway; put it into APPXMPP_SECRET or "
                "APPXMPP_SECRET_FILE, or " + _FORMS
            )
        if not self.domain and not colon:
            raise ConfigError("the address of the gateway names no DOMAIN; %s" % _FORMS)

    def connect(self, timeout=TIMEOUT):
        if self.scheme == "http+unix":
            return _UnixConnection(self.place, timeout)
        kind = HTTPSConnection if self.scheme == "https" else HTTPConnection
        return kind(self.place, timeout=timeout)

    def headers(self):
        if self.domain:
            pair = "%s:%s" % (self.domain, self.secret)
            credentials = "Basic " + base64.b64encode(pair.encode("utf-8")).decode("ascii")
        else:
            credentials = "Bearer " + self.secret
        headers = {
            "Authorization": credentials,
            "Accept": "application/json",
        }
        if self.domain:
            headers["Host"] = self.domain
        return headers


class _Link(threading.local):
    """The connection of one thread, in the process that opened it."""

    connection = None
    owner = None
    used = 0.0


class Http(object):
    """Posts JSON, on a connection that is kept."""

    def __init__(self, address):
        self._address = address
        self._headers = address.headers()
        self._link = _Link()

    def post(self, path, body, content_type="application/json"):
        """The status and the JSON of the answer; None where it holds none."""
        data = body if content_type != "application/json" else json.dumps(body)
        data = data.encode("utf-8")
        headers = dict(self._headers, **{"Content-Type": content_type})
        reused = self._is_fresh()
        try:
            return self._exchange(path, data, headers)
        except (HTTPException, socket.error, OSError) as error:
            self.close()
            # A kept connection may have been closed while nobody looked.
            if not reused or isinstance(error, socket.timeout):
                raise self._away(error)
        try:
            return self._exchange(path, data, headers)
        except (HTTPException, socket.error, OSError) as error:
            self.close()
            raise self._away(error)

    def _is_fresh(self):
        link = self._link
        if link.connection is None or link.owner != os.getpid():
            link.connection = None
            return False
        if time.time() - link.used > IDLE:
            self.close()
            return False
        return True

    def _exchange(self, path, data, headers):
        link = self._link
        if link.connection is None:
            link.connection, link.owner = self._address.connect(), os.getpid()
        link.connection.request("POST", path, data, headers)
        response = link.connection.getresponse()
        text = response.read()
        link.used = time.time()
        try:
            return response.status, json.loads(text.decode("utf-8"))
        except ValueError:
            return response.status, None

    def _away(self, error):
        return UnavailableError(
            "the gateway at %s cannot be reached (%s); is it running?"
            % (self._address.place, error)
        )

    def close(self):
        link = self._link
        if link.connection is not None:
            link.connection.close()
            link.connection = None


def _refuse(status, answer):
    """Raises what a refused call is to the API."""
    error = answer.get("error") if isinstance(answer, dict) else None
    error = error if isinstance(error, dict) else {}
    text = error.get("text") or "the gateway answered with %d" % status
    if status in (401, 403):
        raise NotAuthorizedError("the gateway refused the credentials: %s" % text)
    if status == 413:
        raise CallTooLargeError(text)
    if status in (429, 503):
        raise UnavailableError(text)
    if "code" in error:
        raise ServiceError(error["code"], text)
    raise InternalError(text)


class Gateway(Backend):
    """`appxmpp gateway`: App Engine's calls as they are."""

    def __init__(self, address):
        self._http = Http(address)

    def _call(self, name, body):
        status, answer = self._http.post("/appxmpp/v1/" + name, body)
        if status != 200 or not isinstance(answer, dict):
            _refuse(status, answer)
        return answer

    def send_message(self, jids, body, from_jid, message_type, raw_xml):
        answer = self._call(
            "message",
            {
                "jids": list(jids),
                "body": body,
                "from": from_jid,
                "type": message_type,
                "raw_xml": bool(raw_xml),
            },
        )
        return [int(status) for status in answer["statuses"]]

    def send_presence(self, jid, presence_type, show, status, from_jid):
        self._call(
            "presence",
            {
                "jid": jid,
                "type": presence_type or "",
                "show": show or "",
                "status": status,
                "from": from_jid,
            },
        )

    def send_invite(self, jid, from_jid):
        self._call("invite", {"jid": jid, "from": from_jid})

    def get_presence(self, jids, from_jid):
        answer = self._call("get_presence", {"jids": list(jids), "from": from_jid})
        return [(one["available"], one["show"], one["valid"]) for one in answer["presence"]]

    def is_available(self):
        try:
            self._call("get_presence", {"jids": ["probe@invalid"], "from": None})
        except Exception:
            return False
        return True

    def close(self, timeout=5.0):
        self._http.close()


class ModRest(Backend):
    """Prosody's mod_rest: one POST for each stanza. It keeps no presence.

    The stanzas go as XML: in JSON, an address that is none would be left out in silence, and the
    stanza sent to the app itself.
    """

    def __init__(self, address):
        self._http = Http(address)
        self._path = address.path.rstrip("/")

    def _post(self, kind, to, type, from_jid, inside):
        """The status of App Engine's for one stanza."""
        stanza = "<" + kind
        for name, value in (("to", to), ("type", type), ("from", from_jid)):
            if value:
                stanza += " %s=%s" % (name, quoteattr(value))
        stanza += ">%s</%s>" % (inside, kind)
        status, answer = self._http.post(self._path, stanza, "application/xmpp+xml")
        if status == 202:
            return 0
        if status == 200:
            # The server sent the stanza back.
            return 2
        error = (answer or {}).get("error") or {}
        condition = error.get("condition")
        if condition == "improper-addressing":
            return 1
        # Another domain's is refused with 403, as wrong credentials are: only the text tells.
        if condition == "invalid-from" or "requested 'from'" in error.get("text", ""):
            raise ServiceError(2, "the sender is no address of this component")
        if condition == "not-well-formed":
            raise ServiceError(4, "the body is no XML, or holds what XML cannot carry")
        return _refuse(status, answer)

    def send_message(self, jids, body, from_jid, message_type, raw_xml):
        if not body:
            raise ServiceError(3, "the message has no body")
        inside = body if raw_xml else "<body>%s</body>" % escape(body)
        statuses = []
        for jid in jids:
            try:
                # Without an address it would go to the app itself.
                sent = self._post("message", jid, message_type, from_jid, inside) if jid else 1
                statuses.append(sent)
            except UnavailableError:
                statuses.append(2)
        return statuses

    def _presence(self, jid, type, from_jid, inside=""):
        if not jid or self._post("presence", jid, type, from_jid, inside) == 1:
            raise ServiceError(2, "%r is no address" % (jid,))

    def send_presence(self, jid, presence_type, show, status, from_jid):
        children = (("show", show), ("status", status))
        inside = "".join(
            "<%s>%s</%s>" % (name, escape(text), name) for name, text in children if text
        )
        available = presence_type in ("", "available", None)
        self._presence(jid, "" if available else presence_type, from_jid, inside)

    def send_invite(self, jid, from_jid):
        self._presence(jid, "subscribe", from_jid)

    def get_presence(self, jids, from_jid):
        raise ServiceError(1, "mod_rest keeps no presence; `appxmpp gateway` does")

    def close(self, timeout=5.0):
        self._http.close()


def open_backend(address, secret=None):
    """The backend for an address that begins with http:, https: or http+unix:."""
    parts = Address(address, secret)
    if parts.path.rstrip("/").endswith("/rest"):
        return ModRest(parts)
    return Gateway(parts)
