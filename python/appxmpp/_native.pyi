"""The embedded connection and development server: thin classes over the Rust core."""

from typing import final

__all__ = [
    "App",
    "Delivery",
    "DevEvent",
    "DevServer",
    "__version__",
    "_panic",
    "backend_domain",
    "build_info",
    "gateway_commands",
    "gateway_main",
    "log_level",
    "log_records",
    "subscription_next",
]

__version__: str
#: Version, profile (debug or release) and platform of the build.
build_info: str

@final
class App:
    """One application on one connection to an XMPP server.

    The connection is opened by the first use, never by an import, and kept up from then on. Every
    method may be called from any thread; waits release the interpreter and, in the main thread,
    end for a signal whose handler raises. A process made by ``fork`` cannot use an App of its
    parent; it makes one of its own.
    """

    def __new__(
        cls,
        backend: str,
        *,
        secret: str | None = None,
        app_id: str | None = None,
        inbound_services: list[str] | None = None,
        state: str | None = None,
        bodiless_messages: bool = False,
        durable: bool = False,
        quotas: dict[str, int] | None = None,
        keepalive: float | None = None,
        version: str | None = None,
        addresses: str | None = None,
    ) -> App:
        """Describe a connection; nothing is opened yet.

        Args:
            backend: ``component://DOMAIN:SECRET@HOST[:PORT]`` or
                ``component+unix://DOMAIN:SECRET@/path``.
            secret: The component's secret, where `backend` has none.
            app_id: The application id; by default the part of DOMAIN before the first dot.
            inbound_services: What the app wants delivered, as app.yaml names it; all if None.
            state: A file that keeps subscriptions and presence; memory alone if None.
            bodiless_messages: Whether messages without a body (chat states, …) are delivered.
            durable: Whether messages, presence and invitations are kept in `state` until the
                server has read them, and deliveries until they are done.
            quotas: What may be used in a day (of UTC): `api_calls`, `data_sent_bytes`,
                `recipients_messaged`, `invitations_sent`. What is not named has no limit.
            keepalive: After how many seconds of silence the server is asked whether it is still
                there; 0 for never, 60 if None.
            version: The version of the app that this is, unless it is the default one; DOMAIN is
                then VERSION.latest.DOMAIN.
            addresses: How the app sees its own addresses: `domain` (if None), as they are, or
                `appengine`, as APP_ID@appspot.com and anything@APP_ID.appspotchat.com.

        Raises:
            ConfigError: One of them is wrong.
        """

    @property
    def app_id(self) -> str:
        """The application id."""

    @property
    def domain(self) -> str:
        """The component's domain."""

    def wait_ready(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for a stream to be up; whether one is.

        Raises:
            NotAuthorizedError: The server refused the secret, twice.
            ConfigError: The state file cannot be used.
        """

    def send_message(
        self, jids: list[str], body: str, from_jid: str | None, message_type: str, raw_xml: bool
    ) -> list[int]:
        """Send a message to each of `jids`; a status for each: 0, 1 (invalid JID), 2 (not sent).

        0 means that the message was written to a live stream, or is on disk if the app is
        durable.

        Raises:
            ServiceError: The call is refused; its code is App Engine's.
            CallTooLargeError: Recipients and body are over 1 MiB together.
            OverQuotaError: A quota of today is used up; so in all calls.
            UnavailableError: No stream is up.
        """

    def send_presence(
        self, jid: str, presence_type: str, show: str, status: str | None, from_jid: str | None
    ) -> None:
        """Send a presence; an empty type is available.

        Raises:
            ServiceError, UnavailableError: As in `send_message`.
        """

    def send_invite(self, jid: str, from_jid: str | None) -> None:
        """Ask `jid` for a subscription.

        Raises:
            ServiceError, UnavailableError: As in `send_message`.
        """

    def get_presence(
        self, jids: list[str], from_jid: str | None
    ) -> list[tuple[bool, int | None, bool]]:
        """For each of `jids`: available, App Engine's SHOW number or None, is an address.

        Raises:
            ServiceError: `from_jid` is not the app's, or nobody is asked for.
        """

    def next_batch(self, max: int, timeout: float) -> list[Delivery]:
        """Take up to `max` deliveries, each of a different sender, waiting for the first.

        The next delivery of a sender comes after `done` was called for this one. An empty list
        means that none came within `timeout` seconds.

        Raises:
            NotAuthorizedError: The server refused the secret, twice.
            UnavailableError: The App is closed.
        """

    def done(self, delivery: Delivery, status: int) -> None:
        """`delivery` has been handled; the app answered with the HTTP status `status`."""

    def close(self, timeout: float) -> None:
        """Take no more deliveries, wait for those under way, tell contacts, end the stream.

        All of it takes at most `timeout` seconds; a second call does nothing.
        """

    def stats(self) -> dict[str, int]:
        """Counters since the App was opened, and what waits now."""

@final
class Delivery:
    """An inbound stanza on its way to the app."""

    @property
    def id(self) -> int:
        """Tells the deliveries of one App apart."""

    @property
    def stanza_id(self) -> str | None:
        """The stanza's own ``id``, which its sender chose."""

    @property
    def path(self) -> str:
        """Where App Engine posted it, such as ``/_ah/xmpp/message/chat/``."""

    @property
    def service(self) -> str:
        """What app.yaml's ``inbound_services`` calls it."""

    @property
    def fields(self) -> list[tuple[str, str]]:
        """The form, in App Engine's order."""

    @property
    def sender(self) -> str:
        """The sender's bare address; deliveries of one come in order."""

@final
class DevServer:
    """An XMPP server for development, in this process, with simulated people.

    Every action raises ServiceError for addresses it does not know and UnavailableError while the
    component is not connected.
    """

    def __new__(cls, domain: str, *, secret: str, port: int = 0) -> DevServer:
        """Start a server on a loopback port (0: any) for the component `domain`.

        Raises:
            ConfigError: `domain` is no domain, or the port is taken.
        """

    @property
    def backend(self) -> str:
        """What `App` connects to; the secret comes separately."""

    @property
    def is_connected(self) -> bool:
        """Whether the component is connected."""

    def add_user(self, jid: str, accepts: bool) -> None:
        """Add a person, who is available and, with `accepts`, grants every subscription."""

    def message(self, user: str, to: str, body: str, type: str = "chat") -> None:
        """A person sends a message."""

    def raw(self, user: str, xml: str) -> None:
        """A person's client sends this stanza."""

    def presence(
        self, user: str, available: bool, show: str = "", status: str = "", *, to: str | None = None
    ) -> None:
        """A person changes presence, for everybody subscribed or for one address alone."""

    def probe(self, user: str, to: str) -> None:
        """A person's server asks for an address's presence."""

    def subscription(self, user: str, to: str, kind: str) -> None:
        """A person sends ``subscribe``, ``subscribed``, ``unsubscribe`` or ``unsubscribed``."""

    def next_events(self, max: int, timeout: float) -> list[DevEvent]:
        """Take what people saw, waiting up to `timeout` seconds for the first of it."""

    def console(self, listen: str, bot: str) -> str:
        """Serve a page at `listen` (``127.0.0.1:PORT``) on which one plays people; its address.

        From then on the page gets what people see, and not `next_events`. `bot` is the address of
        the app that the page suggests.

        Raises:
            ConfigError: `listen` is not on this machine, or in use.
        """

    def stop(self) -> None:
        """Stop the server."""

@final
class DevEvent:
    """What a simulated person saw."""

    @property
    def kind(self) -> str:
        """``message``, ``presence``, ``iq``, ``connected`` or ``disconnected``."""

    @property
    def user(self) -> str:
        """The person's bare address."""

    @property
    def sender(self) -> str: ...
    @property
    def to(self) -> str: ...
    @property
    def type(self) -> str:
        """The stanza's type; empty where it has none."""

    @property
    def body(self) -> str | None: ...
    @property
    def show(self) -> str | None: ...
    @property
    def status(self) -> str | None: ...
    @property
    def raw(self) -> str:
        """The stanza itself."""

def backend_domain(url: str) -> str | None:
    """The component's domain or the account's address of a backend's URL; None for ``stub:``.

    Raises:
        ConfigError: `url` is no backend.
    """

def gateway_main(arguments: list[str]) -> int:
    """Run a command of the gateway's, with its `arguments` as after ``appxmpp``; the exit code.

    The daemon takes over SIGTERM, SIGINT and SIGHUP of this process and does not give them back.
    """

def gateway_commands() -> list[tuple[str, str]]:
    """The names of those commands, and what each does."""

def log_level(level: int | None) -> None:
    """Keep what the core says at this level of `logging` and above; None keeps nothing."""

def log_records(timeout: float) -> list[tuple[int, str, str]]:
    """Take what the core said, as (level, source, text), waiting up to `timeout` seconds."""

def _panic(text: str) -> None:
    """Panic, which raises InternalError."""

def subscription_next(state: int, inbound: bool, kind: str) -> tuple[bool, int]:
    """Whether a presence of type `kind` passes, and the state afterwards (RFC 6121 appendix A).

    States are numbered 0 to 8: none, none + out, none + in, none + out + in, to, to + in, from,
    from + out, both.
    """
