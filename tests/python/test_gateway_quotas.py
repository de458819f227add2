"""Quotas over HTTP: counted always, kept over a restart, and enforced where a limit is set."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from appxmpp.errors import OverQuotaError
from appxmpp.gateway_backend import open_backend
from fake_server import FakeServer

from support.gateway import Answer, Callback, Gateway, basic, http_answer

pytestmark = pytest.mark.servers

XML = "application/xmpp+xml"
USER = "romeo@example.net"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


def gateway(server: FakeServer, store: str = "memory:", quotas: dict[str, int] | None = None, **more: Any) -> Gateway:
    app = {"backend": server.backend(secret=False), "secret": server.secret, "bounce_wait_ms": 0, **more}
    env = {f"APPXMPP_QUOTAS_{name.upper()}": str(limit) for name, limit in (quotas or {}).items()}
    running = Gateway([app], env={"APPXMPP_STORE_URL": store, **env}, drain_seconds=1)
    server.wait_login()
    return running.wait_ready()


def post(running: Gateway, path: str, body: str, content_type: str = XML) -> Answer:
    headers = {
        "Authorization": basic("bot.localhost", "s3cret"),
        "Content-Type": content_type,
        "Accept": "application/json",
    }
    return running.request("POST", path, body, headers)


def call(running: Gateway, name: str, **arguments: Any) -> Answer:
    return post(running, f"/appxmpp/v1/{name}", json.dumps(arguments), "application/json")


def quotas(running: Gateway, what: str = "used") -> dict[str, int]:
    found = re.findall(rf'appxmpp_quota_{what}{{app="bot",quota="(\w+)"}} (\d+)', running.metrics())
    return {name: int(value) for name, value in found}


def counted(calls: int, data: int, recipients: int, invitations: int) -> dict[str, int]:
    return {
        "api_calls": calls,
        "data_sent_bytes": data,
        "recipients_messaged": recipients,
        "invitations_sent": invitations,
    }


def test_what_an_app_says_is_counted_by_whatever_way_and_over_a_restart(server: FakeServer, tmp_path: Path) -> None:
    with gateway(server, f"sqlite:{tmp_path}/state.db") as running:
        assert post(running, f"/rest/message/chat/{USER}", "12345", "text/plain").status == 202
        assert post(running, "/rest", f"<message to='{USER}'><body>a &amp; b</body></message>").status == 202
        assert post(running, "/rest", f"<presence to='{USER}' type='subscribe'/>").status == 202
        assert post(running, "/rest", f"<presence to='{USER}'/>").status == 202
        assert quotas(running) == counted(4, 10, 2, 1)
        # What is refused before it is anything, is no call.
        assert post(running, "/rest", "<message to='@'><body>x</body></message>").status == 422
        assert call(running, "message", jids=[USER, "juliet@example.net", "@"], body="12345").status == 200
        assert call(running, "invite", jid=USER).status == 200
        assert call(running, "presence", jid=USER).status == 200
        assert call(running, "get_presence", jids=[USER]).status == 200
        assert quotas(running) == counted(8, 20, 4, 2)
        assert quotas(running, "limit") == {}
        assert running.process.stop(30) == 0
        running.start()
        server.wait_login()
        running.wait_ready()
        assert quotas(running) == counted(8, 20, 4, 2)
        assert call(running, "invite", jid=USER).status == 200
        assert quotas(running) == counted(9, 20, 4, 3)


def test_a_limit_is_enforced_by_whatever_way(server: FakeServer) -> None:
    limits = {"recipients_messaged": 2, "invitations_sent": 0}
    with gateway(server, quotas=limits) as running:
        assert quotas(running, "limit") == limits
        message = f"<message to='{USER}'><body>12345</body></message>"
        assert [post(running, "/rest", message).status for _ in range(2)] == [202, 202]
        refused = post(running, "/rest", message)
        assert refused.status == 429
        assert 0 < int(refused.headers["Retry-After"]) <= 24 * 60 * 60
        error = refused.json()["error"]
        assert (error["type"], error["condition"]) == ("wait", "resource-constraint")
        assert "recipients_messaged" in error["text"]
        assert "2 of 2 today" in error["text"]
        assert post(running, "/rest", f"<presence to='{USER}' type='subscribe'/>").status == 429
        assert post(running, "/rest", f"<presence to='{USER}'/>").status == 202

        refused = call(running, "message", jids=[USER], body="12345")
        assert refused.status == 429
        assert 0 < int(refused.headers["Retry-After"]) <= 24 * 60 * 60
        assert refused.json()["error"]["over_quota"] is True
        backend = open_backend(f"http://bot.localhost:s3cret@127.0.0.1:{running.port}/")
        with pytest.raises(OverQuotaError, match="recipients_messaged"):
            backend.send_message([USER], "12345", None, "chat", False)
        with pytest.raises(OverQuotaError, match="invitations_sent"):
            backend.send_invite(USER, None)
        assert backend.get_presence([USER], None) == [(False, None, True)]
        backend.close()
        assert quotas(running) == counted(4, 10, 2, 0)
        # And nothing of what was refused was sent.
        server.message("and then?")
        names = [server.received.get(timeout=20).get("type") for _ in range(4)]
        assert names == [None, None, None, "error"]


def test_a_reply_to_a_callback_counts_and_is_not_sent_in_silence_when_it_may_not(server: FakeServer) -> None:
    with (
        Callback() as web,
        gateway(server, quotas={"recipients_messaged": 1}, callback_url=web.url) as running,
    ):
        web.answer = lambda _: http_answer(200, [("Content-Type", "text/plain")], "12345")
        server.message("one", id="m1")
        assert server.next_body() == "12345"
        assert quotas(running) == counted(1, 5, 1, 0)
        server.message("two", id="m2")
        refusal = server.next()
        assert (refusal.get("type"), refusal.get("id")) == ("error", "m2")
        assert [child.tag.partition("}")[2] for child in refusal[0]] == ["resource-constraint"]
        assert quotas(running) == counted(1, 5, 1, 0)
        # Who is asked has to answer: that is no call of the app's.
        server.send(f"<iq type='get' id='i1' from='{USER}' to='bot@bot.localhost'><x xmlns='urn:example'/></iq>")
        web.answer = lambda _: http_answer(
            200, [("Content-Type", XML)], "<iq type='result'><x xmlns='urn:example'/></iq>"
        )
        assert server.next("iq").get("type") == "result"
        assert quotas(running) == counted(1, 5, 1, 0)
