# ruff: noqa
"""Drives the ctypes engine from any Python: told where the server is, does what stdin's lines say.

Written in the common subset of Python 2.7 and 3. Each line is a JSON list: a method of `App` and its
arguments; the answer is a line of JSON: ["ok", value] or ["raised", class, code or null, text].
"""

from __future__ import print_function

import json
import os
import sys

from appxmpp import _ctypes

app = _ctypes.App(
    os.environ["BACKEND"],
    secret="s3cret",
    app_id="myapp",
    state=os.environ.get("STATE"),
    version=os.environ.get("VERSION"),
    addresses=os.environ.get("ADDRESSES"),
)
open_deliveries = {}


def plain(value):
    return (
        value.encode("utf-8")
        if sys.version_info[0] < 3 and not isinstance(value, str) and hasattr(value, "encode")
        else value
    )


def next_batch(most, timeout):
    batch = app.next_batch(most, timeout)
    for delivery in batch:
        open_deliveries[delivery.id] = delivery
    return [[d.id, d.path, d.service, d.sender, d.stanza_id, d.fields] for d in batch]


def done(number, status):
    app.done(open_deliveries.pop(number), status)


def in_child():
    """What an App of the parent says in a forked process."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            app.wait_ready(0)
            text = "it works"
        except Exception as error:
            text = "%s: %s" % (type(error).__name__, error)
        os.write(writer, text.encode("utf-8"))
        os._exit(0)
    os.close(writer)
    return os.read(reader, 10000).decode("utf-8")


def identity():
    return [app.app_id, app.domain, list(sys.version_info[:2]), str is bytes]


own = {"next_batch": next_batch, "done": done, "in_child": in_child, "identity": identity}
while True:
    line = sys.stdin.readline()
    if not line:
        break
    call = json.loads(line)
    name, arguments = call[0], [[plain(one) for one in a] if isinstance(a, list) else plain(a) for a in call[1:]]
    try:
        answer = ["ok", own.get(name, getattr(app, name, None))(*arguments)]
    except Exception as error:
        answer = ["raised", type(error).__name__, getattr(error, "code", None), str(error)]
    print(json.dumps(answer))
    sys.stdout.flush()
