from typing import Protocol

class _Form(Protocol):
    def __getitem__(self, key: str, /) -> str | bytes: ...

class _Send(Protocol):
    def __call__(
        self,
        jids: list[str],
        body: str | bytes,
        /,
        *,
        from_jid: str,
        message_type: str,
        raw_xml: bool,
    ) -> object: ...

class Message:
    def __init__(self, vars: _Form) -> None: ...
    @property
    def sender(self) -> str: ...
    @property
    def to(self) -> str: ...
    @property
    def body(self) -> str: ...
    @property
    def command(self) -> str | None: ...
    @property
    def arg(self) -> str: ...
    def reply(
        self,
        body: str | bytes,
        message_type: str = "chat",
        raw_xml: bool = False,
        send_message: _Send = ...,
    ) -> list[int]: ...
