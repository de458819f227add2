"""Webhooks over TLS: only to whom an authority vouches for, by name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_gateway_operation import command

from support import folders
from support.certs import Authority
from support.gateway import Callback, Gateway, Phone, http_answer
from support.server import Server
from support.servers import KINDS

pytestmark = pytest.mark.servers

DOMAIN = "myapp.localhost"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One kind will do: what is tested here is on this side of the stream."""
    with KINDS["prosody"]() as running:
        yield running


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    folder = folders.folder("authority")
    yield Authority(folder)
    folders.remove(folder)


@pytest.fixture
def phone(server: Server) -> Iterator[Phone]:
    with Phone(server, server.account("https")) as client:
        yield client


def app(server: Server, callback: Callback, **more: Any) -> dict[str, Any]:
    own = {"backend": server.backend(DOMAIN), "secret": "s3cret", "callback_url": callback.url + "/x"}
    return {**own, "webhook_deadline_seconds": 0, **more}


def ask(phone: Phone) -> str:
    """The reply's text, or the error's condition."""
    phone.heard.clear()
    phone.send(f"<message to='bot@{DOMAIN}' type='chat' id='m'><body>x</body></message>")
    reply = phone.heard.wait(lambda stanza: stanza.tag.endswith("message"))
    if reply.get("type") == "error":
        return next(child.tag for child in reply.iter() if "xmpp-stanzas" in child.tag).partition("}")[2]
    return reply.findtext("{jabber:client}body") or ""


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_server_that_is_vouched_for_gets_the_posts(
    server: Server, authority: Authority, phone: Phone, host: str
) -> None:
    with Callback(authority.server("DNS:localhost,IP:127.0.0.1"), host) as callback:
        callback.answer = lambda _: http_answer(200, [("Content-Type", "text/plain")], "done safely")
        with Gateway([app(server, callback, callback_ca=str(authority.certificate))]) as gateway:
            gateway.wait_ready()
            assert [ask(phone), ask(phone)] == ["done safely"] * 2
            assert callback.posts.wait().headers["Host"] == f"{host}:{callback.port}"
        status, said = command("doctor", "-c", gateway_config(server, callback, authority, folders.folder("doctor")))
        assert status == 0, said
        assert "its certificate is good" in said


def gateway_config(server: Server, callback: Callback, authority: Authority, folder: Path) -> Path:
    path = folder / "appxmpp.toml"
    path.write_text(
        f'[[app]]\nbackend = "{server.backend(DOMAIN)}"\nsecret = "s3cret"\n'
        f'url = "{callback.url}"\ncallback_ca = "{authority.certificate}"\n'
    )
    return path


def test_another_name_is_refused(server: Server, authority: Authority, phone: Phone) -> None:
    with Callback(authority.server("DNS:elsewhere.example"), "localhost") as callback:
        with Gateway([app(server, callback, callback_ca=str(authority.certificate))]) as gateway:
            gateway.wait_ready()
            assert ask(phone) == "recipient-unavailable"
            gateway.process.wait_for_line("webhook failed.*its certificate is for another name")
        status, said = command("doctor", "-c", gateway_config(server, callback, authority, folders.folder("doctor")))
        assert status == 1
        assert re.search("WRONG .*for another name", said)
        assert not list(callback.posts)


def test_an_unknown_authority_is_refused(server: Server, authority: Authority, phone: Phone) -> None:
    with (
        Callback(authority.server("DNS:localhost"), "localhost") as callback,
        Gateway([app(server, callback)]) as gateway,
    ):
        gateway.wait_ready()
        assert ask(phone) == "recipient-unavailable"
        gateway.process.wait_for_line("webhook failed.*not trusted here.*callback_ca")
        assert not list(callback.posts)


def test_a_server_without_tls_is_no_https_server(server: Server, authority: Authority, phone: Phone) -> None:
    with Callback() as callback:
        secure = app(server, callback, callback_ca=str(authority.certificate))
        secure["callback_url"] = callback.url.replace("http:", "https:")
        with Gateway([secure]) as gateway:
            gateway.wait_ready()
            assert ask(phone) == "recipient-unavailable"
            gateway.process.wait_for_line("webhook failed.*TLS failed")
