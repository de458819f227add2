"""Several gateways with one PostgreSQL store: on ejabberd they serve together, on Prosody one stands by."""

from __future__ import annotations

import collections
import json
import re
import signal
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from support.gateway import Answer, Callback, Gateway, Phone, Post, basic, http_answer
from support.postgres import Postgres
from support.server import Server
from support.servers import KINDS
from support.waiting import until

pytestmark = pytest.mark.servers

BOT = "bot@myapp.localhost"
#: Seconds within which another process has surely taken over, on a machine that does much else.
SOON = 60.0

#: App Engine's numbers of what a contact shows.
SHOWS = {"away": 1, "dnd": 2, "chat": 3}

Start = Callable[[Server, int], list[Gateway]]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def ejabberd() -> Iterator[Server]:
    with KINDS["ejabberd"]() as running:
        yield running


@pytest.fixture(scope="module")
def prosody() -> Iterator[Server]:
    with KINDS["prosody"]() as running:
        yield running


@pytest.fixture
def web() -> Iterator[Callback]:
    with Callback() as running:
        yield running


@pytest.fixture
def store(postgres: Postgres) -> str:
    return postgres.database()


@pytest.fixture
def start(store: str, web: Callback) -> Iterator[Start]:
    """Starts so many gateways with one store."""
    with ExitStack() as stack:

        def gateways(server: Server, count: int) -> list[Gateway]:
            app = {"backend": server.backend(), "secret": "s3cret", "url": web.url, "webhook_timeout_seconds": 60}
            env = {"APPXMPP_STORE_URL": store}
            return [stack.enter_context(Gateway([app], env=env, drain_seconds=1)) for _ in range(count)]

        yield gateways


def post(gateway: Gateway, path: str, body: object) -> Answer:
    headers = {"Authorization": basic("myapp.localhost", "s3cret"), "Content-Type": "application/json"}
    return gateway.request("POST", path, json.dumps(body), headers, timeout=SOON)


def send(gateway: Gateway, to: str, text: str) -> int:
    stanza = {"kind": "message", "type": "chat", "to": to, "from": BOT, "body": text, "id": text}
    return post(gateway, "/rest", stanza).status


def shown(gateway: Gateway, jid: str) -> tuple[bool, object]:
    answer = post(gateway, "/appxmpp/v1/get_presence", {"jids": [jid], "from": BOT})
    assert answer.status == 200, answer
    presence = answer.json()["presence"][0]
    return presence["available"], presence["show"]


def wait_shown(gateway: Gateway, jid: str, expected: tuple[bool, object]) -> None:
    until(lambda: shown(gateway, jid) == expected, SOON, what=f"presence {expected}")


def say(phone: Phone, text: str) -> None:
    phone.send(f"<message to='{BOT}' type='chat' id='{text}'><body>{text}</body></message>")


def text_of(post: Post) -> str:
    found = re.search(rb'name="body"\r\n(?:[^\r]+\r\n)*\r\n(.*?)\r\n', post.body, re.S)
    return found.group(1).decode() if found else ""


def heard_texts(phone: Phone) -> list[str]:
    bodies = (element.findtext("{jabber:client}body") for element in phone.heard)
    return [body for body in bodies if body]


def database(store: str) -> str:
    return re.sub(r"^postgresql:///(\w+)\?.*", r"\1", store)


def rows(postgres: Postgres, store: str, table: str) -> int:
    return int(postgres.query(f"SELECT count(*) FROM appxmpp.{table}", database(store))[0][0])


def subscribe(phone: Phone) -> None:
    """Both see each other's presence afterwards."""

    def grant(element: ET.Element) -> str | None:
        asked = element.tag.endswith("presence") and element.get("type") == "subscribe"
        return f"<presence type='subscribed' to='{BOT}'/>" if asked else None

    phone.reply = grant
    phone.send(f"<presence type='subscribe' to='{BOT}'/>")
    phone.heard.wait(lambda element: element.get("type") == "subscribe", SOON)
    told = "{jabber:client}presence", f"{BOT}/bot", None
    phone.heard.wait(lambda element: (element.tag, element.get("from"), element.get("type")) == told, SOON)


@pytest.fixture
def seen(ejabberd: Server, start: Start) -> Iterator[tuple[list[Gateway], Phone]]:
    """Three gateways, and a contact that the app sees."""
    gateways = start(ejabberd, 3)
    for gateway in gateways:
        gateway.wait_ready()
    with Phone(ejabberd, ejabberd.account("contact")) as phone:
        subscribe(phone)
        yield gateways, phone


def test_presence_is_the_same_seen_from_any_process(seen: tuple[list[Gateway], Phone]) -> None:
    gateways, phone = seen
    for show, number in SHOWS.items():
        phone.send(f"<presence><show>{show}</show></presence>")
        for gateway in gateways:
            wait_shown(gateway, phone.bare, (True, number))
    phone.send("<presence type='unavailable'/>")
    for gateway in gateways:
        wait_shown(gateway, phone.bare, (False, None))


def test_presence_that_changes_quickly_ends_the_same_in_every_process(seen: tuple[list[Gateway], Phone]) -> None:
    gateways, phone = seen
    # ejabberd hands them out at random: which process reads which of them first is anybody's guess.
    for show in [*SHOWS, "gone"] * 2:
        phone.send("".join(f"<presence><show>{before}</show></presence>" for before in SHOWS))
        is_gone = show == "gone"
        phone.send("<presence type='unavailable'/>" if is_gone else f"<presence><show>{show}</show></presence>")
        expected = (False, None) if is_gone else (True, SHOWS[show])
        for gateway in gateways * 2:
            wait_shown(gateway, phone.bare, expected)


def test_what_waits_for_a_killed_process_is_delivered_once_by_another(
    ejabberd: Server, start: Start, web: Callback, postgres: Postgres, store: str
) -> None:
    gateways = start(ejabberd, 3)
    for gateway in gateways:
        gateway.wait_ready()
    release = threading.Event()

    def answer(_: Post) -> bytes:
        release.wait(SOON)
        return http_answer(204)

    web.answer = answer
    texts = [f"{sender}-{number}" for sender in range(4) for number in range(15)]
    with ExitStack() as stack:
        phones = [stack.enter_context(Phone(ejabberd, ejabberd.account("load"))) for _ in range(4)]
        for number in range(15):
            for sender, phone in enumerate(phones):
                say(phone, f"{sender}-{number}")
        # Every message is stored, by whichever process got it; the first of each sender are being delivered.
        until(lambda: rows(postgres, store, "inbox") == len(texts), SOON, what="every message in the store")
        begun = {post.headers["Appxmpp-Delivery"]: text_of(post) for post in web.posts}
        gateways[0].process.kill()
        release.set()
        until(lambda: rows(postgres, store, "inbox") == 0, SOON, what="everything to be delivered")
    posts = list(web.posts)
    assert {text_of(post) for post in posts} == set(texts)
    ids = collections.Counter(post.headers["Appxmpp-Delivery"] for post in posts)
    assert len(ids) == len(texts), "each message has one id, also where it came again"
    again = {id_ for id_, count in ids.items() if count > 1}
    assert again <= begun.keys(), "what had not begun comes once"
    assert max(ids.values()) <= 2
    assert rows(postgres, store, "member") == 2


def test_what_was_accepted_is_sent_when_its_process_is_killed(
    ejabberd: Server, start: Start, postgres: Postgres, store: str
) -> None:
    first, second = start(ejabberd, 2)
    for gateway in (first, second):
        gateway.wait_ready()
    accepted = []
    with Phone(ejabberd, ejabberd.account("reader")) as phone:

        def load() -> None:
            for number in range(2000):
                try:
                    if send(first, phone.bare, f"m{number}") != 202:
                        return
                except OSError:
                    return
                accepted.append(f"m{number}")

        sender = threading.Thread(target=load)
        sender.start()
        until(lambda: len(accepted) >= 100, SOON, what="load")
        first.process.kill()
        sender.join(SOON)
        # What the server was not known to have read is the other's now, and it sends it again.
        until(lambda: rows(postgres, store, "member") == 1, SOON, what="the take-over")
        until(lambda: rows(postgres, store, "outbox") == 0, SOON, what="everything to be sent")
        until(lambda: set(accepted) <= set(heard_texts(phone)), SOON, what="everything that was accepted")
        heard = heard_texts(phone)
        numbers = [int(text[1:]) for text in dict.fromkeys(heard)]
        assert numbers == sorted(numbers), "first comers are in order"
        assert max(collections.Counter(heard).values()) <= 2


@pytest.fixture
def pair(ejabberd: Server, store: str, web: Callback) -> Iterator[list[Gateway]]:
    """Two gateways whose connections to the database have the names of their places in it: `one` and `two`."""
    app = {"backend": ejabberd.backend(), "secret": "s3cret", "url": web.url, "webhook_timeout_seconds": 60}
    with ExitStack() as stack:
        envs = [{"APPXMPP_STORE_URL": f"{store}&application_name={name}"} for name in ("one", "two")]
        gateways = [stack.enter_context(Gateway([app], env=env, drain_seconds=1)) for env in envs]
        yield [gateway.wait_ready() for gateway in gateways]


def speaks(gateway: Gateway, phone: Phone, web: Callback, text: str) -> None:
    """Both ways, whichever process it comes to."""
    until(lambda: send(gateway, phone.bare, f"to {text}") == 202, SOON, what="a process that sends")
    until(lambda: f"to {text}" in heard_texts(phone), SOON, what="what it sends")
    say(phone, f"from {text}")
    assert web.posts.wait(lambda post: text_of(post) == f"from {text}", SOON)


def test_a_process_that_stood_still_goes_on(
    ejabberd: Server, pair: list[Gateway], web: Callback, postgres: Postgres, store: str
) -> None:
    first, _ = pair
    silent = "SELECT count(*) FROM appxmpp.member WHERE beat < clock_timestamp() - interval '6 s'"
    with Phone(ejabberd, ejabberd.account("patient")) as phone:
        first.process.signal(signal.SIGSTOP)
        until(lambda: postgres.query(silent, database(store)) == [["1"]], SOON, what="silence")
        # Some of it comes to the one that stands still.
        texts = [f"meanwhile {number}" for number in range(10)]
        for text in texts:
            say(phone, text)
        first.process.signal(signal.SIGCONT)
        until(lambda: set(texts) <= {text_of(post) for post in web.posts}, SOON, what="what came meanwhile")
        speaks(first, phone, web, "the first")
    assert first.process.running()
    assert rows(postgres, store, "member") == 2


def test_a_process_that_others_took_over_from_ends_and_serves_again_when_it_is_started(
    ejabberd: Server, pair: list[Gateway], web: Callback, postgres: Postgres, store: str
) -> None:
    first, second = pair
    release = threading.Event()

    def answer(_: Post) -> bytes:
        release.wait(SOON)
        return http_answer(204)

    web.answer = answer
    texts = [f"{number}" for number in range(20)]
    with Phone(ejabberd, ejabberd.account("patient")) as phone:
        for text in texts:
            say(phone, text)
        until(lambda: rows(postgres, store, "inbox") == len(texts), SOON, what="every message in the store")
        first.process.signal(signal.SIGSTOP)
        # As where the database, or what is between, takes a silent connection for dead.
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'one'"
        assert postgres.query(ended), "it had no connection"
        until(lambda: rows(postgres, store, "member") == 1, SOON, what="the take-over")
        release.set()
        until(lambda: rows(postgres, store, "inbox") == 0, SOON, what="everything to be delivered")
        first.process.signal(signal.SIGCONT)
        # What Restart=on-failure of systemd starts again.
        assert first.process.wait(SOON) == 1
        assert "another gateway took over from this one" in first.process.all_output()
        delivered = collections.Counter(text_of(post) for post in web.posts)
        assert set(texts) <= delivered.keys()
        first.start()
        first.wait_ready()
        assert rows(postgres, store, "member") == 2
        for gateway in pair:
            speaks(gateway, phone, web, f"{gateway.port}")
    assert second.process.running()


def test_the_second_process_stands_by_and_takes_over(prosody: Server, start: Start, web: Callback) -> None:
    first = start(prosody, 1)[0].wait_ready()
    account = prosody.account("contact")
    with Phone(prosody, account) as phone:
        subscribe(phone)
        phone.send("<presence><show>away</show></presence>")
        wait_shown(first, account.jid, (True, SHOWS["away"]))
        second = start(prosody, 1)[0]
        second.process.wait_for_line("the gateway serves HTTP")
        until(lambda: b"standby" in second.request("GET", "/readyz").body, SOON, what="standby")
        assert second.request("GET", "/readyz").status == 503
        assert 'appxmpp_stream_standby{app="myapp"} 1' in second.metrics()
        # What would wait here for the first one's end is not accepted.
        assert send(second, phone.bare, "too early") == 503
        assert shown(second, account.jid) == (True, SHOWS["away"])
        first.process.kill()
        second.wait_ready()
        assert 'appxmpp_stream_standby{app="myapp"} 0' in second.metrics()
        say(phone, "to the second")
        assert text_of(web.posts.wait(lambda post: text_of(post) == "to the second", SOON))
        assert send(second, phone.bare, "from the second") == 202
        phone.heard.wait(lambda element: element.findtext("{jabber:client}body") == "from the second", SOON)
        assert shown(second, account.jid) == (True, SHOWS["away"])


def test_a_database_that_is_restarted_is_waited_for(prosody: Server, web: Callback) -> None:
    with Postgres() as own:
        app = {"backend": prosody.backend("second.localhost"), "secret": "an0ther", "url": web.url}
        headers = {"Authorization": basic("second.localhost", "an0ther"), "Content-Type": "application/json"}
        with (
            Gateway([app], env={"APPXMPP_STORE_URL": own.url()}, drain_seconds=1) as gateway,
            Phone(prosody, prosody.account("patient")) as phone,
        ):
            gateway.wait_ready()

            def send_second(text: str) -> int:
                stanza = {"kind": "message", "type": "chat", "to": phone.bare, "body": text}
                return gateway.request("POST", "/rest", json.dumps(stanza), headers, timeout=SOON).status

            def hears(text: str) -> None:
                phone.heard.wait(lambda element: element.findtext("{jabber:client}body") == text, SOON)

            assert send_second("before") == 202
            hears("before")
            # A short end is not noticed: what comes meanwhile is stored when it is back.
            own.restart()
            assert send_second("after a restart") == 202
            hears("after a restart")
            own.kill()
            assert send_second("while it is away") in (503, 507)
            until(lambda: "cannot be reached" in gateway.process.all_output(), SOON, what="a clear error")
            own.start()
            until(lambda: send_second("after a crash") == 202, SOON, what="the store")
            hears("after a crash")
            phone.send("<message to='bot@second.localhost' type='chat'><body>in</body></message>")
            assert web.posts.wait(lambda post: text_of(post) == "in", SOON)
            assert gateway.process.running()


@pytest.mark.parametrize("kind", list(KINDS))
def test_several_apps_in_one_process_have_a_domain_each(request: pytest.FixtureRequest, kind: str, store: str) -> None:
    server: Server = request.getfixturevalue(kind)
    secrets = {"myapp.localhost": "s3cret", "second.localhost": "an0ther"}
    with ExitStack() as stack:
        webs = {domain: stack.enter_context(Callback()) for domain in secrets}
        apps = [
            {"backend": server.backend(domain), "secret": secret, "url": webs[domain].url, "id": domain.split(".")[0]}
            for domain, secret in secrets.items()
        ]
        gateway = stack.enter_context(Gateway(apps, env={"APPXMPP_STORE_URL": store}, drain_seconds=1))
        gateway.wait_ready()
        phone = stack.enter_context(Phone(server, server.account("both")))
        for domain in secrets:
            phone.send(f"<message to='bot@{domain}' type='chat'><body>to {domain}</body></message>")
        for domain, secret in secrets.items():
            assert text_of(webs[domain].posts.wait()) == f"to {domain}"
            headers = {"Authorization": basic(domain, secret), "Content-Type": "application/json", "Host": domain}
            stanza = {"kind": "message", "type": "chat", "to": phone.bare, "body": f"from {domain}"}
            assert gateway.request("POST", "/rest", json.dumps(stanza), headers).status == 202
            phone.heard.wait(lambda element, text=f"from {domain}": element.findtext("{jabber:client}body") == text)
        for domain in secrets:
            assert not webs[domain].posts.peek(), "nobody gets another's"
