"""The development stub: checks what App Engine's did, sends nothing, says what it would send.

Its rules for JIDs are those of the original, which refuses some legal ones
(a second ``@`` or ``/``, a bare domain) and lets an empty domain pass.
"""

import sys

from appxmpp.app_id import application_id
from appxmpp.appengine.text import utf8_length
from appxmpp.backend import Backend
from appxmpp.errors import CallTooLargeError, ServiceError

MAX_CALL_SIZE = 1 << 20

_NO_ERROR = 0
_BAD_JID = 1
_INVALID_JID = 2
_SHOW_AWAY = 1
_UNSUPPORTED = ",;()[]"
# Bytes that one recipient or the body costs in a call besides its text, at most.
_FIELD_OVERHEAD = 6


def _print(text):
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class Stub(Backend):
    """Hands one text per call to `log`, which by default prints it on standard error."""

    def __init__(self, log=_print):
        self.log = log

    def send_message(self, jids, body, from_jid, message_type, raw_xml):
        _check_size(jids, body)
        sender = self.sender(from_jid)
        lines = ["Sending an XMPP Message:"]
        lines += ["    From:", "       " + sender]
        lines += ["    Body:", "       " + body]
        lines += ["    Type:", "       " + message_type]
        lines += ["    Raw Xml:", "       %s" % (raw_xml,)]
        lines += ["    To JIDs:"]
        lines += ["       " + jid for jid in jids]
        self.log("\n".join(lines))
        return [_NO_ERROR if self.is_valid(jid) else _BAD_JID for jid in jids]

    def send_invite(self, jid, from_jid):
        sender = self.sender(from_jid)
        self._require_valid(jid)
        self.log("Sending an XMPP Invite:\n    From:\n       " + sender + "\n    To: " + jid)

    def send_presence(self, jid, presence_type, show, status, from_jid):
        sender = self.sender(from_jid)
        text = "Sending an XMPP Presence:\n    From:\n       " + sender + "\n    To: " + jid
        for label, value in (("Type", presence_type), ("Show", show), ("Status", status)):
            if value:
                text += "\n    " + label + ": " + value
        self.log(text)

    def get_presence(self, jids, from_jid):
        self.sender(from_jid)
        return [(jid[0] < "m", _SHOW_AWAY, self.is_valid(jid)) for jid in jids]

    def sender(self, from_jid):
        """The address that a stanza would come from."""
        app = application_id()
        if not from_jid:
            return app + "@appspot.com/bot"
        self._require_valid(from_jid)
        bare, slash, _resource = from_jid.partition("/")
        node, _at, domain = bare.partition("@")
        own = domain == "appspot.com" and node == app
        if not own and domain != app + ".appspotchat.com":
            self.log(
                "Invalid From JID: Must be appid@appspot.com[/resource] or "
                "node@appid.appspotchat.com[/resource]. JID: " + from_jid
            )
            raise ServiceError(_INVALID_JID)
        return from_jid if slash else bare + "/bot"

    def is_valid(self, jid):
        """Whether the stub takes `jid`; if not, the reason is logged."""
        fault = _fault(jid)
        if fault:
            self.log("Invalid JID: " + fault + " JID: " + jid)
        return not fault

    def _require_valid(self, jid):
        if not self.is_valid(jid):
            raise ServiceError(_INVALID_JID)


def _fault(jid):
    if any(character in jid for character in _UNSUPPORTED):
        return 'characters "%s" not supported. ' % _UNSUPPORTED
    at = jid.find("@")
    if at < 0:
        return "No '@' character found."
    if at == 0:
        return "No node before the '@' character."
    if jid.find("@", at + 1) >= 0:
        return "More than one '@' character found."
    slash = jid.find("/", at + 1)
    if slash >= 0 and jid.find("/", slash + 1) >= 0:
        return "More than one '/' character found."
    return ""


def _check_size(jids, body):
    size = utf8_length(body) + sum(utf8_length(jid) + _FIELD_OVERHEAD for jid in jids)
    if size > MAX_CALL_SIZE:
        raise CallTooLargeError("The request to API call xmpp.SendMessage() was too large.")
