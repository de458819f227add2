"""Apps copied from a faulty sample: their paths lack the trailing slash, or have /message/error/."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from appxmpp.middleware import Verifier

from support.gateway import Callback, Gateway, Phone, Post, http_answer
from support.server import Server
from support.servers import KINDS

pytestmark = pytest.mark.servers

CHAT, ERROR = "/_ah/xmpp/message/chat/", "/_ah/xmpp/error/"
MESSAGE = "<message to='bot@myapp.localhost' type='chat' id='m'><body>x</body></message>"
#: What comes back to the app.
BOUNCE = (
    "<message to='bot@myapp.localhost' type='error' id='e'><body>x</body><error type='cancel'>"
    "<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
)


class Site(Callback):
    """An app with some pages; it answers 404 to everything else."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: set[str] = set()
        self.answer = lambda post: http_answer(200 if post.path in self.pages else 404)

    def hear(self, count: int) -> list[Post]:
        return [self.posts.wait() for _ in range(count)]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One kind will do: what is tested here is on this side of the stream."""
    with KINDS["prosody"]() as running:
        yield running


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as running:
        yield running


@pytest.fixture
def phone(server: Server) -> Iterator[Phone]:
    with Phone(server, server.account("fallback")) as client:
        yield client


def gateway(server: Server, site: Site, **more: object) -> Gateway:
    app = {"backend": server.backend("myapp.localhost"), "secret": "s3cret", "url": site.url + "/app", **more}
    return Gateway([app]).wait_ready()


@pytest.mark.parametrize(
    ("stanza", "page", "tried"),
    [
        (MESSAGE, CHAT, [CHAT]),
        (MESSAGE, CHAT[:-1], [CHAT, CHAT[:-1]]),
        (BOUNCE, "/_ah/xmpp/message/error/", [ERROR, "/_ah/xmpp/message/error/"]),
        (BOUNCE, ERROR[:-1], [ERROR, "/_ah/xmpp/message/error/", ERROR[:-1]]),
    ],
)
def test_a_path_that_is_not_there_has_others(
    server: Server, site: Site, phone: Phone, stanza: str, page: str, tried: list[str]
) -> None:
    site.pages = {"/app" + page}
    with gateway(server, site):
        phone.send(stanza)
        posts = site.hear(len(tried))
        assert [post.path for post in posts] == ["/app" + path for path in tried]
        # One delivery, and each attempt is signed.
        assert len({post.headers["Appxmpp-Delivery"] for post in posts}) == 1
        assert len({post.body for post in posts}) == 1
        check = Verifier("s3cret")
        for post in posts:
            assert check.accepts(post.headers["Appxmpp-Signature"], post.headers["Appxmpp-Delivery"], post.body)
        # The page was found: a second stanza, in order behind the first, comes to none of the other paths in between.
        site.pages.add("/app" + CHAT)
        phone.send(MESSAGE.replace("'m'", "'last'"))
        assert site.posts.wait().path == "/app" + CHAT
    assert phone.heard.peek(lambda heard: heard.get("type") == "error") == []


@pytest.mark.parametrize(("status", "tried"), [(404, [CHAT, CHAT[:-1]]), (500, [CHAT]), (403, [CHAT])])
def test_only_what_is_not_there_is_looked_for_elsewhere_and_once(
    server: Server, site: Site, phone: Phone, status: int, tried: list[str]
) -> None:
    site.answer = lambda _: http_answer(status)
    with gateway(server, site) as running:
        for _ in range(2):
            phone.send(MESSAGE)
            assert [post.path for post in site.hear(len(tried))] == ["/app" + path for path in tried]
        running.process.wait_for_line(f"the app refused a delivery.* status={status}")
    assert list(site.posts) == []


@pytest.mark.parametrize("stanza", [MESSAGE, BOUNCE])
def test_without_fallbacks_one_path_is_tried(server: Server, site: Site, phone: Phone, stanza: str) -> None:
    with gateway(server, site, fallback_paths=False):
        phone.send(stanza)
        first = site.posts.wait()
        site.pages = {"/app" + CHAT}
        phone.send(MESSAGE.replace("'m'", "'last'"))
        last = site.posts.wait()
        assert first.headers["Appxmpp-Delivery"] != last.headers["Appxmpp-Delivery"]
        assert (first.path, last.path) == ("/app" + (CHAT if stanza is MESSAGE else ERROR), "/app" + CHAT)
