"""What App Engine's chat service posted: the form's layout, and where an app may listen for it."""

import binascii
import os

#: The address it called from.
REMOTE_ADDR = "0.1.0.10"

_ERROR = "/_ah/xmpp/error/"
_MESSAGE_ERROR = "/_ah/xmpp/message/error/"


def form(fields):
    """The Content-Type and body of a multipart/form-data request, laid out as App Engine did."""
    # Nobody who sends a field can guess it.
    boundary = "----=" + binascii.hexlify(os.urandom(13)).decode("ascii")[:25]
    if str is bytes:
        boundary = boundary.encode("ascii")
    parts = []
    for name, value in fields:
        kind = "text/xml" if name == "stanza" else "text/plain"
        parts.append(
            '--%s\r\nContent-Type: %s; charset="UTF-8"\r\n'
            'Content-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
            % (boundary, kind, name, value)
        )
    body = "".join(parts) + "--%s--\r\n" % boundary
    if not isinstance(body, bytes):
        body = body.encode("utf-8")
    return 'multipart/form-data; boundary="%s"' % boundary, body


def addresses(path):
    """`path`, then where apps that took the documentation's older or misprinted forms listen."""
    paths = [path, _MESSAGE_ERROR] if path == _ERROR else [path]
    return paths + [one.rstrip("/") for one in paths]
