"""The request that a stanza becomes, and who makes it when."""

import collections
import logging
import threading

import flask
import pytest
import webapp2
from appxmpp import direct, errors
from appxmpp.deliver import Caller, Dispatcher, form

CHAT = "/_ah/xmpp/message/chat/"
FIELDS = [
    ("from", "romeo@example.net/orchard"),
    ("to", "bot@app.example/bot"),
    ("body", "<é> & \r\n--x\r\n"),
    ("stanza", '<cli:message xmlns:cli="jabber:client"/>'),
]


class Seen:
    """A WSGI app that keeps what it was asked and answers as told."""

    def __init__(self, answers=None):
        self.requests = []
        self.answers = answers or {}

    def __call__(self, environ, start_response):
        environ["body"] = environ["wsgi.input"].read()
        self.requests.append(environ)
        start_response(self.answers.get(environ["PATH_INFO"], "200 OK"), [])
        return []


def test_the_form_is_laid_out_as_app_engine_did():
    content_type, body = form(FIELDS)
    head, boundary, _ = content_type.split('"')
    assert head == "multipart/form-data; boundary="
    assert boundary.startswith("----=")
    assert len(boundary) == 30
    plain, xml = (f'Content-Type: text/{kind}; charset="UTF-8"' for kind in ("plain", "xml"))
    expected = "".join(
        f'--{boundary}\r\n{kind}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for kind, (name, value) in zip([plain, plain, plain, xml], FIELDS, strict=True)
    )
    assert body.decode() == expected + f"--{boundary}--\r\n"
    assert form(FIELDS)[0] != content_type


def test_the_request_is_the_one_app_engine_made():
    app = Seen()
    assert Caller(app, "s~myapp", "bot.example.com:8443", "https").post(CHAT, FIELDS) == 200
    (request,) = app.requests
    expected = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": CHAT,
        "QUERY_STRING": "",
        "REMOTE_ADDR": "0.1.0.10",
        "HTTP_HOST": "bot.example.com:8443",
        "SERVER_NAME": "bot.example.com",
        "SERVER_PORT": "8443",
        "HTTP_USER_AGENT": "",
        "HTTP_X_APPENGINE_FAKE_IS_ADMIN": "1",
        "HTTP_X_APPENGINE_FAKE_LOGGED_IN": "1",
        "APPLICATION_ID": "s~myapp",
        "USER_IS_ADMIN": "1",
        "wsgi.url_scheme": "https",
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
    }
    assert {name: request[name] for name in expected} == expected
    assert int(request["CONTENT_LENGTH"]) == len(request["body"])


def test_each_request_says_which_delivery_it_is():
    app, source = Seen(), Lanes(Item(7, "k1", CHAT, FIELDS, "a"), Item(1 << 40, None, CHAT, FIELDS, "b"))
    running = dispatcher(source, Caller(app, "s~myapp", "h").post, workers=1)
    running.closing()
    source.close()
    assert running.join(20)
    assert [request["HTTP_APPXMPP_DELIVERY"] for request in app.requests] == ["7", str(1 << 40)]
    Caller(app, "s~myapp", "h").post(CHAT, FIELDS)
    assert "HTTP_APPXMPP_DELIVERY" not in app.requests[-1]


class Webapp2Handler(webapp2.RequestHandler):
    fields = None

    def post(self):
        Webapp2Handler.fields = list(self.request.POST.items())


flask_app = flask.Flask(__name__)


@flask_app.post(CHAT)
def flask_handler():
    flask_app.fields = list(flask.request.form.items())
    return ""


@pytest.mark.parametrize(
    "app", [webapp2.WSGIApplication([(CHAT, Webapp2Handler)]), flask_app], ids=["webapp2", "flask"]
)
def test_frameworks_read_the_fields(app):
    assert Caller(app, "s~a", "h").post(CHAT, FIELDS) == 200
    assert (Webapp2Handler.fields if app is not flask_app else app.fields) == FIELDS


@pytest.mark.parametrize(
    ("path", "answers", "tried", "status"),
    [
        (CHAT, {CHAT: "404 x"}, [CHAT, CHAT[:-1]], 200),
        (CHAT, {CHAT: "404 x", CHAT[:-1]: "404 x"}, [CHAT, CHAT[:-1]], 404),
        (CHAT, {CHAT: "500 x"}, [CHAT], 500),
        (CHAT, {CHAT: "405 x"}, [CHAT], 405),
        (
            "/_ah/xmpp/error/",
            {"/_ah/xmpp/error/": "404 x"},
            ["/_ah/xmpp/error/", "/_ah/xmpp/message/error/"],
            200,
        ),
        (
            "/_ah/xmpp/error/",
            dict.fromkeys(["/_ah/xmpp/error/", "/_ah/xmpp/message/error/"], "404 x"),
            ["/_ah/xmpp/error/", "/_ah/xmpp/message/error/", "/_ah/xmpp/error"],
            200,
        ),
    ],
)
def test_older_addresses_are_tried_where_nobody_listens(path, answers, tried, status):
    app = Seen(answers)
    assert Caller(app, "s~a", "h").post(path, FIELDS) == status
    assert [request["PATH_INFO"] for request in app.requests] == tried


@pytest.mark.parametrize("error", [ValueError("boom"), SystemExit(3), GeneratorExit()])
def test_a_handler_that_raises_is_logged_with_the_stanzas_id(error, caplog):
    def app(*_):
        raise error

    assert Caller(app, "s~a", "h").post(CHAT, FIELDS, "m1") == 500
    (record,) = caplog.records
    assert {"m1", CHAT} <= set(record.getMessage().split())
    assert (record.name, record.levelno) == ("appxmpp.delivery", logging.ERROR)
    assert bool(record.exc_info) == isinstance(error, ValueError)


def test_an_app_that_raises_midway_or_never_starts_is_a_500():
    def midway(_environ, start_response):
        start_response("200 OK", [])
        yield b"x"
        raise ValueError

    def never(*_):
        return []

    def twice(_environ, start_response):
        start_response("200 OK", [])
        start_response("200 OK", [])
        return []

    for app in (midway, never, twice):
        assert Caller(app, "s~a", "h").post(CHAT, FIELDS) == 500


def test_the_answer_is_closed_and_an_error_answer_replaces_the_first():
    closed = []

    class Body(list):
        def close(self):
            closed.append(True)

    def app(_environ, start_response):
        start_response("200 OK", [])
        try:
            raise ValueError
        except ValueError as error:
            start_response("503 Later", [], (type(error), error, None))
        return Body([b"later"])

    answer = direct.call(app, direct.environ("GET", "/"))
    assert (answer.status, answer.reason, answer.body, closed) == (503, "Later", b"later", [True])


Item = collections.namedtuple("Item", "id stanza_id path fields sender")


def item(name, sender):
    return Item(0, name, CHAT, [], sender)


class Lanes:
    """A source that hands out one item of a sender at a time, as the native module does."""

    def __init__(self, *items):
        self.changed = threading.Condition()
        self.waiting, self.busy, self.statuses = list(items), set(), {}
        self.closed = False

    def put(self, *items):
        with self.changed:
            self.waiting.extend(items)
            self.changed.notify_all()

    def close(self):
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def next_batch(self, _max, _timeout):
        with self.changed:
            self.changed.wait_for(lambda: self._next() or (self.closed and not self.waiting and not self.busy))
            if (found := self._next()) is None:
                raise errors.UnavailableError("closed")
            self.waiting.remove(found)
            self.busy.add(found.sender)
            return [found]

    def _next(self):
        return next((one for one in self.waiting if one.sender not in self.busy), None)

    def done(self, item, status):
        with self.changed:
            self.busy.remove(item.sender)
            self.statuses[item.stanza_id] = status
            self.changed.notify_all()


def dispatcher(source, post, workers=4):
    failures = []
    made = Dispatcher(source, post, workers, failures.append)
    made.failures = failures
    made.start()
    return made


def test_closing_finishes_what_waits():
    order = []
    source = Lanes(*(item(f"{sender}{n}", sender) for n in range(20) for sender in "abcde"))
    running = dispatcher(source, lambda _path, _fields, name, _id: order.append(name) or 200)
    running.closing()
    source.close()
    assert running.join(20)
    for sender in "abcde":
        assert [name for name in order if name[1] == sender] == [f"'{sender}{n}'" for n in range(20)]
    assert set(source.statuses.values()) == {200}
    assert running.failures == []


def test_a_slow_handler_holds_up_its_own_sender_only():
    source, go, others = Lanes(), threading.Event(), threading.Semaphore(0)

    def post(_path, _fields, name, _id):
        if name == "'slow'":
            assert go.wait(20)
        else:
            others.release()
        return 200

    running = dispatcher(source, post, workers=2)
    source.put(item("slow", "a"), item("after", "a"))
    source.put(*(item(f"b{n}", f"b{n}") for n in range(10)))
    for _ in range(10):
        assert others.acquire(timeout=20)
    assert "after" not in source.statuses
    go.set()
    running.closing()
    source.close()
    assert running.join(20)
    assert source.statuses["after"] == 200


def test_a_handler_that_never_ends_does_not_hold_up_the_end():
    at_work, forever = threading.Event(), threading.Event()
    running = dispatcher(Lanes(item("x", "a")), lambda *_: at_work.set() or forever.wait(60) or 200)
    assert at_work.wait(20)
    assert not running.join(0.1)
    forever.set()


@pytest.mark.parametrize("error", [OSError("gone"), errors.UnavailableError("gone")])
def test_a_source_that_fails_is_reported(error):
    class Broken(Lanes):
        def next_batch(self, *_):
            raise error

    running = dispatcher(Broken(), None, workers=1)
    assert running.join(20)
    assert running.failures == [error]


def test_a_delivery_is_logged_without_what_was_said(caplog):
    caplog.set_level(logging.INFO, "appxmpp.delivery")
    source = Lanes(Item(7, None, CHAT, FIELDS, "romeo@example.net"))
    running = dispatcher(source, lambda *_: 404)
    running.closing()
    source.close()
    assert running.join(20)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"{CHAT} from romeo@example.net: 404 in ")
    assert record.getMessage().endswith("(stanza 7)")
    assert "--x" not in record.getMessage()
