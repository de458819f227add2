from collections.abc import Callable

from appxmpp.backend import Backend

MAX_CALL_SIZE: int

class Stub(Backend):
    log: Callable[[str], object]
    def __init__(self, log: Callable[[str], object] = ...) -> None: ...
    def sender(self, from_jid: str | None) -> str: ...
    def is_valid(self, jid: str) -> bool: ...
