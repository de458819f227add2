from typing import final

__version__: str

@final
class App:
    def __init__(
        self,
        backend: str,
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
    ) -> None: ...
    @property
    def app_id(self) -> str: ...
    @property
    def domain(self) -> str: ...
    def wait_ready(self, timeout: float) -> bool: ...
    def send_message(
        self, jids: list[str], body: str, from_jid: str | None, message_type: str, raw_xml: bool
    ) -> list[int]: ...
    def send_presence(
        self, jid: str, presence_type: str, show: str, status: str | None, from_jid: str | None
    ) -> None: ...
    def send_invite(self, jid: str, from_jid: str | None) -> None: ...
    def get_presence(
        self, jids: list[str], from_jid: str | None
    ) -> list[tuple[bool, int | None, bool]]: ...
    def next_batch(self, max: int, timeout: float) -> list[Delivery]: ...
    def done(self, delivery: Delivery, status: int) -> None: ...
    def close(self, timeout: float) -> None: ...
    def stats(self) -> dict[str, int]: ...

@final
class Delivery:
    id: int
    stanza_id: str | None
    path: str
    service: str
    fields: list[tuple[str, str]]
    sender: str

def subscription_next(state: int, inbound: bool, kind: str) -> tuple[bool, int]: ...
