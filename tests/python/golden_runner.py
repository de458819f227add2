# ruff: noqa
"""Checks records of ``golden.json``: what App Engine's own modules answered.

Written in the common subset of Python 2.7 and 3. Run as a script it checks
every record with the interpreter at hand: ``golden_runner.py golden.json``.
"""

from __future__ import print_function

import ast
import inspect
import json
import logging
import os
import re
import sys

import appxmpp  # noqa: F401
from appxmpp import backend
from appxmpp.errors import ServiceError
from google.appengine.api import apiproxy_stub_map, xmpp
from google.appengine.api.xmpp import xmpp_service_stub
from google.appengine.runtime import apiproxy_errors

PY3 = sys.version_info[0] >= 3

# Failures that Python itself words, differently in each version: class only.
PYTHONS_OWN_WORDS = (
    "xmpp.send_presence(['a@b','c@d'])",
    "M([])",
    "setattr(msg('x'),'body','y')",
)


class Environment(object):
    """A clean process as far as the API can tell, put back afterwards."""

    def __init__(self, application_id="s~myapp", **variables):
        self.variables = dict(variables, APPLICATION_ID=application_id)

    def __enter__(self):
        self.environ = dict(os.environ)
        for name in list(os.environ):
            if name.startswith("APPXMPP_") or name == "GAE_APPLICATION":
                del os.environ[name]
        os.environ.update(self.variables)
        self.map = apiproxy_stub_map.apiproxy
        apiproxy_stub_map.apiproxy = apiproxy_stub_map.APIProxyStubMap()
        self.backend = backend.set(None)
        return apiproxy_stub_map.apiproxy

    def __exit__(self, *_exception):
        backend.set(self.backend)
        apiproxy_stub_map.apiproxy = self.map
        os.environ.clear()
        os.environ.update(self.environ)


class RecordingStub(object):
    """Answers any call: with success, with given values, or with an error."""

    def __init__(self, error=None, statuses=None, presence=(True, 0, True)):
        self.log = []
        self.error = error
        self.statuses = statuses
        self.presence = presence

    def MakeSyncCall(self, service, call, request, response):
        assert service == "xmpp"
        text = " ".join(str(request).split("\n")).strip()
        self.log.append("RPC %s %s" % (call, text))
        if self.error is not None:
            raise self.error
        if call == "SendMessage":
            for status in self.statuses or [0] * request.jid_size():
                response.add_status(status)
        elif call == "BulkGetPresence":
            available, show, valid = self.presence
            for _jid in request.jid_list():
                one = response.add_presence_response()
                one.set_is_available(available)
                if show is not None:
                    one.set_presence(show)
                if valid is not None:
                    one.set_valid(valid)


class RecordingBackend(backend.Backend):
    """The same answers at the seam below the API."""

    def __init__(self, error=None, statuses=None, presence=(True, 0, True)):
        self.error = error
        self.statuses = statuses
        self.presence = presence

    def _answer(self, answer=None):
        if self.error is not None:
            raise self.error
        return answer

    def send_message(self, jids, body, from_jid, message_type, raw_xml):
        return self._answer(self.statuses or [0] * len(jids))

    def send_presence(self, jid, presence_type, show, status, from_jid):
        return self._answer()

    def send_invite(self, jid, from_jid):
        return self._answer()

    def get_presence(self, jids, from_jid):
        return self._answer([self.presence] * len(jids))


def msg(body):
    return xmpp.Message({"from": "u@h/r", "to": "myapp@appspot.com/bot", "body": body})


def same(expected, actual, what):
    assert expected == actual, "%s: expected %r, got %r" % (what, expected, actual)


def text_of(value):
    """Log texts are UTF-8 bytes on Python 2."""
    return value.decode("utf-8") if isinstance(value, bytes) else value


def check_call(record, log=None):
    """Evaluates ``call``; compares result or exception, and the log if there is one."""
    call = record["call"]
    names = {"xmpp": xmpp, "M": xmpp.Message, "msg": msg}
    try:
        returned = eval(call, names)
    except Exception as error:
        if "raises" not in record:
            raise
        same(record["raises"], type(error).__name__, "exception")
        if call not in PYTHONS_OWN_WORDS:
            same(record["args"], repr(error.args), "args")
            same(record["str"], str(error), "text")
    else:
        assert "returns" in record, "expected %s, got %r" % (record["raises"], returned)
        same(record["returns"], repr(returned), "result")
    if log is not None:
        same(record.get("log", []), [text_of(text) for text in log], "log")


def check_constants(record):
    for name, value in record.get("values", {}).items():
        same(value, repr(getattr(xmpp, name)), name)
    if "valid_message_types" in record:
        shows = {str(k): v for k, v in xmpp._PRESENCE_SHOW_MAPPING.items()}
        same(record["presence_show_mapping"], shows, "shows")
        same(record["valid_message_types"], sorted(xmpp._VALID_MESSAGE_TYPES), "types")
        same(record["valid_presence_shows"], sorted(xmpp._VALID_PRESENCE_SHOWS), "shows")
        same(record["valid_presence_types"], sorted(xmpp._VALID_PRESENCE_TYPES), "types")


def check_errors(record):
    for name, mro in record["mro"].items():
        same(mro, [cls.__name__ for cls in getattr(xmpp, name).__mro__], name)


def argspec(function):
    """The four fields of Python 2's ArgSpec, with functions named in their default."""
    if PY3:
        spec = inspect.getfullargspec(function)
        assert not spec.kwonlyargs
        assert not spec.annotations
        keywords = spec.varkw
    else:
        spec = inspect.getargspec(function)
        keywords = spec.keywords
    return "ArgSpec(args=%r, varargs=%r, keywords=%r, defaults=%r)" % (
        spec.args,
        spec.varargs,
        keywords,
        spec.defaults,
    )


def check_signatures(record):
    for name, expected in record["values"].items():
        function = xmpp
        for part in name.split("."):
            function = getattr(function, part)
        address = re.compile(r" at 0x\w+")
        same(address.sub("", expected), address.sub("", argspec(function)), name)


def check_enums(record):
    for name, constants in record.items():
        if name == "group":
            continue
        cls = getattr(xmpp.xmpp_service_pb, name)
        for constant, value in constants.items():
            same(value, getattr(cls, constant), name + "." + constant)


def check_devstub(record):
    application_id = record["group"].partition("APPLICATION_ID=")[2]
    application_id = ast.literal_eval(application_id) if application_id else "s~myapp"
    with Environment(application_id) as stub_map:
        log = []
        stub_map.RegisterStub("xmpp", xmpp_service_stub.XmppServiceStub(log=log.append))
        check_call(record, log)
    with Environment(application_id):
        log = []
        # What is used when nothing is set, with its print in our hands.
        stub = backend.get()
        same("Stub", type(stub).__name__, "default backend")
        stub.log = log.append
        check_call(record, log)


def check_rpc(record):
    with Environment() as stub_map:
        stub = RecordingStub()
        stub_map.RegisterStub("xmpp", stub)
        check_call(record, stub.log)


def check_answer(record, stub_answers, backend_answers):
    with Environment() as stub_map:
        stub_map.RegisterStub("xmpp", RecordingStub(**stub_answers))
        check_call(record)
    with Environment():
        backend.set(RecordingBackend(**backend_answers))
        check_call(record)


def check_rpc_error(record):
    code = int(record["group"].rpartition(" ")[2])
    check_answer(
        record,
        {"error": apiproxy_errors.ApplicationError(code)},
        {"error": ServiceError(code)},
    )


def check_statuses(record):
    statuses = ast.literal_eval(record["group"].partition("statuses ")[2])
    check_answer(record, {"statuses": statuses}, {"statuses": statuses})


def check_presence(record):
    presence = ast.literal_eval(record["group"].partition("=")[2])
    check_answer(record, {"presence": presence}, {"presence": presence})


def check_no_stub(record):
    with Environment(APPXMPP_BACKEND="none:"):
        check_call(record)


def check_transport_error(record):
    error = apiproxy_errors.OverQuotaError("q")
    check_answer(record, {"error": error}, {"error": error})


def check_parsed(record):
    message = msg(ast.literal_eval(record["body"]))
    same(record["command"], repr(message.command), "command")
    same(record["arg"], repr(message.arg), "arg")


def check_message(record):
    with Environment() as stub_map:
        stub = RecordingStub()
        stub_map.RegisterStub("xmpp", stub)
        check_call(record, stub.log)


CHECKS = (
    ("constants", check_constants),
    ("errors", check_errors),
    ("signatures", check_signatures),
    ("enums", check_enums),
    ("devstub", check_devstub),
    ("rpc error code", check_rpc_error),
    ("rpc statuses", check_statuses),
    ("rpc", check_rpc),
    ("presence sub-response", check_presence),
    ("no stub registered", check_no_stub),
    ("transport error", check_transport_error),
    ("Message.command/arg", check_parsed),
    ("Message", check_message),
)


def check_api(record):
    """Checks one record of the section ``api``."""
    for prefix, check in CHECKS:
        if record["group"].startswith(prefix):
            check(record)
            return
    raise AssertionError("no check for the group %(group)r" % record)


class ErrorLog(logging.Handler):
    """Collects what is logged at ERROR as the records spell it."""

    def __init__(self, observed):
        logging.Handler.__init__(self, logging.ERROR)
        self.observed = observed

    def emit(self, record):
        self.observed.append("LOG ERROR %s" % record.getMessage())


class SendLog(object):
    """A stub that notes messages as the records spell them."""

    def __init__(self, observed):
        self.observed = observed

    def MakeSyncCall(self, service, call, request, response):
        same("SendMessage", call, "call")
        self.observed.append(
            "SEND from=%s body=%r to=%s" % (request.from_jid(), request.body(), ",".join(request.jid_list()))
        )
        for _jid in request.jid_list():
            response.add_status(0)


def bot_application():
    from google.appengine.ext import webapp
    from google.appengine.ext.webapp import xmpp_handlers

    class Bot(xmpp_handlers.CommandHandler):
        def foo_command(self, message=None):
            message.reply("foo:" + message.arg)

        def boom_command(self, message=None):
            raise Exception("boom")

        def text_message(self, message=None):
            message.reply("text:" + message.arg)

    class Silent(xmpp_handlers.CommandHandler):
        pass

    class Base(xmpp_handlers.BaseHandler):
        pass

    class Attribute(xmpp_handlers.CommandHandler):
        help_command = "not callable"

    routes = [("/b", Bot), ("/b2", Silent), ("/base", Base), ("/attr", Attribute)]
    return webapp.WSGIApplication(routes, debug=False)


def check_handler(record):
    """Checks one record of the section ``handlers``."""
    import webapp2

    classic = record["framework"].startswith("classic")
    variables = {"APPXMPP_WEBAPP": "classic"} if classic else {}
    observed = []
    errors = ErrorLog(observed)
    root = logging.getLogger()
    with Environment(**variables) as stub_map:
        stub_map.RegisterStub("xmpp", SendLog(observed))
        root.addHandler(errors)
        try:
            request = webapp2.Request.blank(record["path"], POST=record["form"])
            request.method = "POST"
            response = request.get_response(bot_application())
        finally:
            root.removeHandler(errors)
    same(record["http_status"], response.status, "status")
    same(record["observed"], observed, "observed")


def main(path):
    with open(path) as file:
        golden = json.load(file)
    failed = 0
    logging.getLogger().addHandler(logging.NullHandler())
    for check, records in ((check_api, golden["api"]), (check_handler, golden["handlers"])):
        for record in records:
            try:
                check(record)
            except Exception as error:
                failed += 1
                print("FAILED %s\n  %s: %s" % (json.dumps(record), type(error).__name__, error))
    total = len(golden["api"]) + len(golden["handlers"])
    print("%d of %d records hold" % (total - failed, total))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
