"""How an app under test tells the test what reached it: one JSON object per line on a unix socket."""

import json
import os
import socket
import threading

_local = threading.local()


def report(**what):
    connection = getattr(_local, "connection", None)
    if connection is None:
        connection = _local.connection = socket.socket(socket.AF_UNIX)
        connection.connect(os.environ["APPXMPP_TEST_RECORDER"])
    connection.sendall(json.dumps(what).encode() + b"\n")


def delivery(path, fields, environ, **more):
    """Reports one inbound request: its path, form fields and what the service says in the environment."""
    told = ("REMOTE_ADDR", "HTTP_HOST", "CONTENT_TYPE", "SERVER_NAME", "REQUEST_METHOD", "APPLICATION_ID")
    shown = {name: environ.get(name) for name in told}
    shown["APPLICATION_ID"] = environ.get("APPLICATION_ID", os.environ.get("APPLICATION_ID"))
    report(path=path, fields=dict(fields), environ=shown, **more)


def call(module, request):
    """Calls `module.NAME(*args, **kwargs)` for {"name", "args", "kwargs"}; the answer as JSON text."""
    asked = json.loads(request)
    try:
        returned = getattr(module, asked["name"])(*asked.get("args", ()), **asked.get("kwargs", {}))
    except Exception as error:
        return json.dumps({"raised": type(error).__name__, "text": str(error)})
    return json.dumps({"returned": returned})
