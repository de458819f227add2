"""Prosody's own mod_rest: its README's programs at our gateway, and our library at it.

The module is Debian's, out of its newer prosody-modules package; MOD_REST=FOLDER names one instead.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from appxmpp.errors import NotAuthorizedError, ServiceError, UnavailableError
from appxmpp.gateway_backend import open_backend

from support import folders
from support.gateway import ROOT, Callback, Gateway, Phone, http_answer
from support.process import Process
from support.prosody import Prosody
from support.server import Server
from support.servers import KINDS

sys.path.append(str(ROOT / "tests/bench"))
from runner import mod_rest
from runner.proc import BenchError

pytestmark = pytest.mark.servers

OWN, SECRET = "rest.localhost", "s3cret"


@pytest.fixture(scope="module")
def module() -> Path:
    """The folder with mod_rest."""
    out = ROOT / "build/mod_rest"
    out.mkdir(parents=True, exist_ok=True)
    try:
        return mod_rest.plugin_folder(os.environ.get("MOD_REST", "auto"), out)
    except BenchError as error:
        pytest.skip(f"NOT TESTED: {error}")


def examples(module: Path) -> dict[str, str]:
    """The programs of the README and of the folder `example`, as they are."""
    found = [*module.parent.glob("prosody-modules/**/README_mod_rest.md.gz"), *module.glob("mod_rest/README.md")]
    found += [path for path in [Path("/usr/share/doc/prosody-modules/README_mod_rest.md.gz")] if path.exists()]
    if not found:
        pytest.skip("NOT TESTED: this mod_rest came without its README")
    data = found[0].read_bytes()
    text = (gzip.decompress(data) if found[0].suffix == ".gz" else data).decode()
    blocks = re.findall(r"^``` \{\.python\}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    flask = [block for block in blocks if "Flask(" in block]
    assert len(flask) >= 2
    return {
        "xml": flask[0],
        "json": flask[1],
        "app": (module / "mod_rest/example/app.py").read_text(),
    }


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with KINDS["prosody"]() as running:
        yield running


@pytest.fixture
def phone(server: Server) -> Iterator[Phone]:
    with Phone(server, server.account("readme")) as client:
        yield client


def ask(phone: Phone, stanza: str) -> Any:
    phone.heard.clear()
    phone.send(stanza)
    return phone.heard.wait(lambda heard: (heard.get("from") or "").endswith("myapp.localhost"))


CHAT = "<message to='bot@myapp.localhost' type='chat' id='c'><body>hello?</body></message>"


@pytest.mark.parametrize(
    ("name", "path", "media", "reply"),
    [
        ("xml", "/", "application/xmpp+xml", "Yes this is bot"),
        ("json", "/", "application/json", "hello"),
        ("app", "/api", "application/xmpp+xml", "Yes this is flask app"),
    ],
)
def test_the_flask_example_runs_unchanged(
    module: Path, server: Server, phone: Phone, tmp_path: Path, name: str, path: str, media: str, reply: str
) -> None:
    script = tmp_path / "bot.py"
    script.write_text(examples(module)[name])
    (port,) = folders.free_ports(1)
    argv = [sys.executable, "-m", "flask", "--app", str(script), "run", "--port", str(port)]
    bot = Process(argv, name="flask", cwd=tmp_path)
    bot.wait_for_line("Running on")
    callback = {"callback_url": f"http://127.0.0.1:{port}{path}", "callback_content_type": media}
    with Gateway([{"backend": server.backend("myapp.localhost"), "secret": "s3cret", **callback}]) as gateway:
        gateway.wait_ready()
        if name == "app":
            # It says itself that it wants JSON.
            gateway.process.wait_for_line("the callback chose its media type.*json")
        answer = ask(phone, CHAT)
        assert answer.get("type") != "error"
        assert answer.findtext("{jabber:client}body") == reply
        ping = ask(phone, "<iq type='get' id='p' to='myapp.localhost'><ping xmlns='urn:xmpp:ping'/></iq>")
        assert ping.get("type") == ("result" if name == "app" else "error")
    bot.stop()


@pytest.fixture(scope="module")
def callback() -> Iterator[Callback]:
    with Callback() as running:
        running.answer = lambda _: http_answer(204)
        yield running


class RestProsody(Prosody):
    """Prosody with mod_rest for one component."""

    def __init__(self, plugins: Path, callback: str) -> None:
        self._plugins, self._callback = plugins, callback
        super().__init__()

    def _configure(self) -> None:
        super()._configure()
        # Its own user may not read our folders.
        copied = shutil.copytree(self._plugins, self.folder / "plugins")
        for path in [copied, *copied.rglob("*")]:
            folders.give(path, self.user)
        rest = f'component_secret = "{SECRET}"; rest_callback_url = "{self._callback}"'
        config = self._config.read_text()
        self._config.write_text(f'plugin_paths = {{ "{copied}" }}\n{config}\nComponent "{OWN}" "rest"\n\t{rest}\n')


@pytest.fixture(scope="module")
def prosody(module: Path, callback: Callback) -> Iterator[RestProsody]:
    with RestProsody(module, callback.url + "/stanzas") as running:
        yield running


@pytest.fixture
def backend(prosody: RestProsody) -> Any:
    return open_backend(f"http://{OWN}:{SECRET}@127.0.0.1:{prosody.http_port}/rest")


@pytest.fixture
def bob(prosody: RestProsody) -> Iterator[Phone]:
    with Phone(prosody, prosody.account("bob")) as client:
        yield client


def test_our_library_sends_through_prosodys_mod_rest(backend: Any, bob: Phone, callback: Callback) -> None:
    text = "h\u00e9llo \u2603 <b> & ]]> \"'"
    assert backend.send_message([bob.bare], text, f"bot@{OWN}/r", "chat", False) == [0]
    heard = bob.heard.wait(lambda stanza: stanza.tag.endswith("message"))
    assert heard.findtext("{jabber:client}body") == text
    assert (heard.get("from"), heard.get("type")) == (f"bot@{OWN}/r", "chat")
    raw = "<body>raw</body><x xmlns='urn:x'/>"
    assert backend.send_message([bob.bare], raw, None, "chat", True) == [0]
    heard = bob.heard.wait(lambda stanza: stanza.find("{urn:x}x") is not None)
    assert heard.findtext("{jabber:client}body") == "raw"


def test_each_recipient_has_a_status(backend: Any, bob: Phone, callback: Callback) -> None:
    callback.posts.clear()
    jids = [bob.bare, "@@", "nobody@localhost", "", bob.bare]
    assert backend.send_message(jids, "x", None, "chat", False) == [0, 1, 2, 1, 0]
    # What has no address did not go to the app itself.
    backend.send_message([f"bot@{OWN}"], "mark", None, "chat", False)
    assert b"mark" in callback.posts.wait().body


def test_presence_and_invitations(backend: Any, bob: Phone) -> None:
    backend.send_presence(bob.bare, "available", "dnd", "zur\u00fcck <um> 14 Uhr", f"bot@{OWN}")
    heard = bob.heard.wait(lambda stanza: stanza.get("from") == f"bot@{OWN}")
    assert heard.findtext("{jabber:client}show") == "dnd"
    assert heard.findtext("{jabber:client}status") == "zur\u00fcck <um> 14 Uhr"
    backend.send_invite(bob.bare, f"bot@{OWN}")
    assert bob.heard.wait(lambda stanza: stanza.get("type") == "subscribe").get("from") == f"bot@{OWN}"
    with pytest.raises(ServiceError) as refused:
        backend.send_invite("@@", None)
    assert refused.value.code == 2


def test_what_it_cannot_do_and_what_is_wrong_is_said(backend: Any, prosody: RestProsody, bob: Phone) -> None:
    with pytest.raises(ServiceError, match="appxmpp gateway"):
        backend.get_presence([bob.bare], None)
    for body in ("<body>", "</message><message>", "x\x01"):
        with pytest.raises(ServiceError) as refused:
            backend.send_message([bob.bare], body, None, "chat", True)
        assert refused.value.code == 4, body
    with pytest.raises(ServiceError) as refused:
        backend.send_message([bob.bare], "x", "bot@elsewhere.example", "chat", False)
    assert refused.value.code == 2
    wrong = open_backend(f"http://{OWN}:wrong@127.0.0.1:{prosody.http_port}/rest")
    with pytest.raises(NotAuthorizedError):
        wrong.send_message([bob.bare], "x", None, "chat", False)
    (port,) = folders.free_ports(1)
    away = open_backend(f"http://{OWN}:{SECRET}@127.0.0.1:{port}/rest")
    with pytest.raises(UnavailableError):
        away.send_invite(bob.bare, None)
