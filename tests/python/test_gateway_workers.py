"""Many processes, one connection: App Engine's API through the gateway, and its form posts back."""

from __future__ import annotations

import functools
import http.client
import multiprocessing
import os
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from appxmpp.errors import NotAuthorizedError, ServiceError, UnavailableError
from appxmpp.gateway_backend import open_backend
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from support import folders
from support.certs import Authority
from support.gateway import ROOT, Gateway, Phone
from support.process import Process
from support.server import Server
from support.terminator import Terminator
from support.waiting import PATIENCE, until
from support.webapp import WebApp

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def web() -> Iterator[WebApp]:
    with WebApp("hook") as app:
        yield app


@pytest.fixture(scope="module")
def gateway(server: Server, web: WebApp) -> Iterator[Gateway]:
    domain, secret = next(iter(server.components.items()))
    app = {"backend": server.backend(domain), "secret": secret, "url": web.url, "webhook_secret": "hook"}
    with Gateway([app]) as running:
        yield running.wait_ready()


@pytest.fixture
def phone(server: Server) -> Iterator[Phone]:
    with Phone(server, server.account("worker")) as client:
        yield client


def address(gateway: Gateway, secret: str = "s3cret") -> str:
    return f"http://myapp.localhost:{secret}@127.0.0.1:{gateway.port}/"


def body(stanza: ET.Element) -> str | None:
    return stanza.findtext("{jabber:client}body")


def send(where: str, to: str, text: str) -> None:
    assert open_backend(where).send_message([to], text, None, "chat", False) == [0]


def test_many_processes_send_through_one_connection(gateway: Gateway, phone: Phone) -> None:
    texts = {f"from process {number}" for number in range(4)}
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=send, args=(address(gateway), phone.bare, text)) for text in texts]
    for worker in workers:
        worker.start()
    heard = {body(phone.heard.wait(lambda stanza: body(stanza) is not None)) for _ in texts}
    for worker in workers:
        worker.join(20)
        assert worker.exitcode == 0
    assert heard == texts


def test_every_recipient_has_a_status(gateway: Gateway, phone: Phone) -> None:
    backend = open_backend(address(gateway))
    statuses = backend.send_message([phone.bare, "a@b@c"], "h\u00e9", "other@myapp.localhost", "chat", False)
    assert statuses == [0, 1]
    stanza = phone.heard.wait(lambda stanza: body(stanza) == "h\u00e9")
    assert (stanza.get("from") or "").startswith("other@myapp.localhost/")


def test_what_the_service_refuses_has_its_number(gateway: Gateway) -> None:
    backend = open_backend(address(gateway))
    for code, arguments in [
        (3, (["a@b"], "", None, "chat", False)),
        (4, (["a@b"], "<x>", None, "chat", True)),
        (5, (["a@b"], "x", None, "shout", False)),
        (2, (["a@b"], "x", "someone@elsewhere", "chat", False)),
    ]:
        with pytest.raises(ServiceError) as caught:
            backend.send_message(*arguments)
        assert caught.value.code == code


def test_an_invitation_leads_to_presence(gateway: Gateway, phone: Phone, web: WebApp) -> None:
    backend = open_backend(address(gateway))
    assert backend.get_presence([phone.bare, "a@b@c"], None) == [(False, None, True), (False, None, False)]
    backend.send_invite(phone.bare, None)
    asked = phone.heard.wait(lambda stanza: stanza.get("type") == "subscribe")
    phone.send(f"<presence to='{asked.get('from')}' type='subscribed'/>")
    web.forms.wait(lambda form: form[0] == "/_ah/xmpp/subscription/subscribed/")
    phone.send("<presence><show>dnd</show></presence>")
    until(lambda: backend.get_presence([phone.bare], None) == [(True, 2, True)], what="bob's presence")


def test_a_message_reaches_the_app_signed_and_in_order(gateway: Gateway, phone: Phone, web: WebApp) -> None:
    texts = [f"text {number} <&> \u00e9" for number in range(50)]
    for text in texts:
        escaped = text.replace("&", "&amp;").replace("<", "&lt;")
        phone.send(f"<message to='guest@myapp.localhost/x' type='chat'><body>{escaped}</body></message>")
    forms = [web.forms.wait(lambda form: form[0] == "/_ah/xmpp/message/chat/") for _ in texts]
    assert [fields["body"] for _, fields, _ in forms] == texts
    _, fields, remote = forms[0]
    assert list(fields) == ["from", "to", "body", "stanza"]
    assert (fields["from"], fields["to"], remote) == (phone.jid, "guest@myapp.localhost/x", "0.1.0.10")
    assert fields["stanza"].startswith("<cli:message ")


def test_wrong_credentials_and_no_gateway_are_told_apart(gateway: Gateway) -> None:
    with pytest.raises(NotAuthorizedError):
        open_backend(address(gateway, "wrong")).send_message(["a@b"], "x", None, "chat", False)
    (free,) = folders.free_ports(1)
    with pytest.raises(UnavailableError):
        open_backend(f"http://d:s@127.0.0.1:{free}/").send_invite("a@b", None)


def test_metrics_count_what_happened(gateway: Gateway) -> None:
    text = gateway.metrics()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    up = families["appxmpp_stream_up"]
    assert [(sample.labels, sample.value) for sample in up.samples] == [({"app": "myapp"}, 1)]
    deliveries = families["appxmpp_deliveries"]
    assert deliveries.type == "counter"
    assert sum(sample.value for sample in deliveries.samples if sample.labels["outcome"] == "ok") >= 50
    took = families["appxmpp_delivery_seconds"]
    assert took.type == "histogram"
    count = sum(sample.value for sample in took.samples if sample.name.endswith("_count"))
    assert count == sum(sample.value for sample in took.samples if sample.labels.get("le") == "+Inf") >= 50
    # The parser refuses what OpenMetrics does: samples without a type, buckets that shrink, a counter without _total.
    assert all(family.type != "unknown" and family.documentation for family in families.values())
    assert text.endswith("# EOF\n")
    document = (ROOT / "core/gateway/README.md").read_text()
    names = re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE)
    assert len(names) >= 10
    assert [name for name in names if f"`{name}" not in document] == []
    # Whoever may read the numbers may not read who talks to whom.
    assert [label for label in re.findall(r'="([^"]*)"', text) if "@" in label or "localhost" in label] == []


def test_a_unix_socket_serves_the_same(server: Server) -> None:
    domain, secret = list(server.components.items())[1]
    folder = folders.folder("unix")
    path = folder / "gateway.sock"
    app = {"backend": server.backend(domain), "secret": secret}
    try:
        with Gateway([app], {"listen": f"unix:{path}"}) as running:
            running.process.wait_for_line("the stream is up")
            backend = open_backend(f"http+unix://{domain}:{secret}@{path}")
            assert backend.get_presence(["a@b"], None) == [(False, None, True)]
        assert not path.exists()
    finally:
        folders.remove(folder)


def test_a_proxy_with_tls_may_stand_in_front(gateway: Gateway, phone: Phone) -> None:
    folder = folders.folder("front")
    authority = Authority(folder)
    try:
        with Terminator(gateway.port, authority.issue("DNS:localhost")) as front:
            where = f"https://myapp.localhost:s3cret@localhost:{front.port}"
            send(f"{where}/?ca={authority.certificate}", phone.bare, "over TLS")
            send(f"{where}/rest?ca={authority.certificate}", phone.bare, "to /rest over TLS")
            with pytest.raises(UnavailableError, match="is not trusted"):
                open_backend(f"{where}/").send_invite(phone.bare, None)
    finally:
        folders.remove(folder)
    heard = [body(phone.heard.wait(lambda stanza: body(stanza) is not None)) for _ in range(2)]
    assert heard == ["over TLS", "to /rest over TLS"]


WORKERS = 4
SITE = f"""
import os, time
import werkzeug
from appxmpp import middleware
from google.appengine.api import xmpp

def site(environ, start_response):
    parts = environ["PATH_INFO"].strip("/").split("/")
    if parts[0] == "send":
        # A worker does one thing at a time: once this many are at it, so are all workers.
        open(f"at-work-{{os.getpid()}}", "w").close()
        deadline = time.monotonic() + {PATIENCE}
        while sum(name.startswith("at-work-") for name in os.listdir()) < {WORKERS}:
            assert time.monotonic() < deadline, "the other workers do not come"
            time.sleep(0.01)
        status = xmpp.send_message(parts[1], f"{{parts[2]}} {{os.getpid()}}")
    else:
        form = werkzeug.Request(environ).form
        status = xmpp.send_message(form["from"], "echo " + form["body"])
    start_response("200 OK" if status == xmpp.NO_ERROR else "500 Internal Server Error", [])
    return [str(status).encode()]

app = middleware(site)
"""


def get(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_gunicorns_workers_share_one_connection(server: Server, phone: Phone, tmp_path: Path) -> None:
    """Each worker sends once, all of them at the same time, through a Unix socket; the webhooks come to any."""
    (tmp_path / "shared.py").write_text(SITE)
    (port,) = folders.free_ports(1)
    domain, secret = list(server.components.items())[1]
    socket = tmp_path / "gateway.sock"
    app = {"backend": server.backend(domain), "secret": secret, "url": f"http://127.0.0.1:{port}"}
    env = {
        **os.environ,
        "APPXMPP_BACKEND": f"http+unix://{domain}:{secret}@{socket}",
        "APPXMPP_WEBHOOK_SECRET": secret,
        "HOME": str(tmp_path),
    }
    argv = ["-m", "gunicorn", "-w", str(WORKERS), "-b", f"127.0.0.1:{port}", "shared:app"]
    with Gateway([app], {"listen": f"unix:{socket}"}) as gateway:
        gateway.process.wait_for_line("the stream is up")
        site = Process([sys.executable, *argv], name="gunicorn", env=env, cwd=tmp_path)
        try:
            site.wait_for_line("Listening at")
            with ThreadPoolExecutor(WORKERS) as pool:
                pages = [f"/send/{phone.bare}/{number}" for number in range(WORKERS)]
                assert list(pool.map(functools.partial(get, port), pages)) == [200] * WORKERS
            heard = [phone.heard.wait(lambda stanza: body(stanza) is not None) for _ in range(WORKERS)]
            texts = [(body(stanza) or "").split() for stanza in heard]
            assert {number for number, _ in texts} == {str(number) for number in range(WORKERS)}
            assert len({pid for _, pid in texts}) == WORKERS
            assert len({stanza.get("from") for stanza in heard}) == 1
            # And back: whichever worker gets it answers, signed or not at all.
            phone.send(f"<message to='x@{domain}' type='chat'><body>hello</body></message>")
            answer = phone.heard.wait(lambda stanza: body(stanza) is not None)
            assert (body(answer) or "").startswith("echo hello")
            assert get(port, "/_ah/xmpp/message/chat/") == 403
            assert re.search("^appxmpp_stream_up{.*} 1$", gateway.metrics(), re.MULTILINE)
        finally:
            site.stop()
