"""The backend that speaks to a gateway, or to Prosody's mod_rest, over HTTP.

    http://DOMAIN:SECRET@HOST:PORT/             `appxmpp gateway`
    http+unix://DOMAIN:SECRET@/path/to.sock     the same, on a Unix socket
    https://DOMAIN:SECRET@HOST:PORT/rest        Prosody's mod_rest

Without DOMAIN, HOST is the component's domain; an empty DOMAIN makes SECRET a bearer
token. With https, ``?ca=FILE`` names authorities to trust instead of the system's.
Every thread keeps one connection.
"""

# Python 2 would look for the module http beside this one.
from __future__ import absolute_import

import base64
import json
import os
import re
import select
import socket
import ssl
import threading
import time

from appxmpp.errors import (
    CallTooLargeError,
    ConfigError,
    InternalError,
    NotAuthorizedError,
    OverQuotaError,
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
# socket.error and ssl.SSLError are OSErrors on Python 3 alone.
_ERRORS = (HTTPException, socket.error, OSError, ssl.SSLError)


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
        self._tls = None
        if scheme == "http+unix":
            self.place = place
            if not place.startswith("/"):
                raise ConfigError("http+unix needs the path of a socket; %s" % _FORMS)
        else:
            place, _, query = place.partition("?")
            self.place, _, path = place.partition("/")
            self.path = "/" + path
            if not self.place:
                raise ConfigError("the address of the gateway names no host; %s" % _FORMS)
            ca = _certificates(scheme, query)
            if scheme == "https":
                self._tls = _trust(ca)
        if not self.secret or (at and not user):
            raise ConfigError(
                "there is no secret for the gateway; put it into APPXMPP_SECRET or "
                "APPXMPP_SECRET_FILE, or " + _FORMS
            )
        if not self.domain and not colon:
            self.domain = self._host_as_domain()

    def _host_as_domain(self):
        """The component's domain, where the address names none."""
        host = "" if self.scheme == "http+unix" else self.place
        host = re.sub(":[0-9]*$", "", host)
        if not host or host.startswith("[") or re.match("^[0-9.]+$", host):
            raise ConfigError(
                "the address of the gateway names no DOMAIN, and %r is no component's; %s"
                % (self.place, _FORMS)
            )
        return host

    def connect(self, timeout=TIMEOUT):
        if self.scheme == "http+unix":
            return _UnixConnection(self.place, timeout)
        if self.scheme == "https":
            return HTTPSConnection(self.place, timeout=timeout, context=self._tls)
        return HTTPConnection(self.place, timeout=timeout)

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


def _certificates(scheme, query):
    """The file that the options of an address name, or None."""
    ca = None
    for option in query.split("&") if query else ():
        name, _, value = option.partition("=")
        if name != "ca" or not value:
            raise ConfigError("%r is no option of a gateway's address; ?ca=FILE is" % option)
        if scheme != "https":
            raise ConfigError("ca=%s says whom to trust, but %s is not encrypted" % (value, scheme))
        ca = unquote(value)
    return ca


def _trust(ca):
    try:
        return ssl.create_default_context(cafile=ca)
    except (IOError, OSError, ssl.SSLError) as error:
        raise ConfigError(
            "ca names %r, which holds no certificates that can be read (%s); "
            "give a file of them in PEM form" % (ca, error)
        )


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

    def post(self, path, body, content_type="application/json", harmless=False):
        """The status and the JSON of the answer; None where it holds none.

        Only what nobody can have acted on is sent a second time, or what is `harmless`.
        """
        data = body if content_type != "application/json" else json.dumps(body)
        data = data.encode("utf-8")
        headers = dict(self._headers, **{"Content-Type": content_type})
        if self._is_fresh():
            try:
                self._write(path, data, headers)
            except _ERRORS as error:
                self.close()
                if isinstance(error, socket.timeout):
                    raise self._away(error)
                # The end of it did not leave this machine.
            else:
                try:
                    return self._read()
                except _ERRORS as error:
                    self.close()
                    if not harmless or isinstance(error, socket.timeout):
                        raise self._unanswered(error)
        try:
            self._write(path, data, headers)
        except _ERRORS as error:
            self.close()
            raise self._away(error)
        try:
            return self._read()
        except _ERRORS as error:
            self.close()
            raise self._unanswered(error)

    def _is_fresh(self):
        """Whether there is a connection of this process that the other side keeps open."""
        link = self._link
        if link.connection is None or link.owner != os.getpid():
            link.connection = None
            return False
        # Where nothing was asked, all that can be read is the end.
        if time.time() - link.used > IDLE or _is_readable(link.connection.sock):
            self.close()
            return False
        return True

    def _write(self, path, data, headers):
        link = self._link
        if link.connection is None:
            link.connection, link.owner = self._address.connect(), os.getpid()
        link.connection.request("POST", path, data, headers)

    def _read(self):
        link = self._link
        response = link.connection.getresponse()
        text = response.read()
        link.used = time.time()
        try:
            return response.status, json.loads(text.decode("utf-8"))
        except ValueError:
            return response.status, None

    def _away(self, error):
        where = self._address.place
        if isinstance(error, ssl.SSLError):
            return UnavailableError(
                "the gateway at %s is not trusted (%s); ?ca=FILE at the end of its address "
                "names certificates of authorities that are" % (where, error)
            )
        return UnavailableError(
            "the gateway at %s cannot be reached (%s); is it running?" % (where, error)
        )

    def _unanswered(self, error):
        return UnavailableError(
            "the gateway at %s took the call and did not answer (%s); it may have been carried "
            "out, so it was not sent again" % (self._address.place, error)
        )

    def close(self):
        link = self._link
        if link.connection is not None:
            link.connection.close()
            link.connection = None


def _is_readable(sock):
    if sock is None:
        return True
    if not hasattr(select, "poll"):
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _refuse(status, answer):
    """Raises what a refused call is to the API."""
    error = answer.get("error") if isinstance(answer, dict) else None
    error = error if isinstance(error, dict) else {}
    text = error.get("text") or "the gateway answered with %d" % status
    if status in (401, 403):
        raise NotAuthorizedError("the gateway refused the credentials: %s" % text)
    if status == 413:
        raise CallTooLargeError(text)
    if error.get("over_quota"):
        raise OverQuotaError(text)
    if status in (429, 503):
        raise UnavailableError(text)
    if "code" in error:
        raise ServiceError(error["code"], text)
    raise InternalError(text)


class Gateway(Backend):
    """`appxmpp gateway`: App Engine's calls as they are."""

    def __init__(self, address):
        self._http = Http(address)

    def _call(self, name, body, harmless=False):
        status, answer = self._http.post("/appxmpp/v1/" + name, body, harmless=harmless)
        if status == 200 and answer is None:
            raise UnavailableError("the gateway's answer broke off; the call may have been done")
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
        question = {"jids": list(jids), "from": from_jid}
        answer = self._call("get_presence", question, harmless=True)
        return [(one["available"], one["show"], one["valid"]) for one in answer["presence"]]

    def is_available(self):
        try:
            self._call("get_presence", {"jids": ["probe@invalid"], "from": None}, harmless=True)
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
