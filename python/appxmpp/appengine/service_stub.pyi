from collections.abc import Callable
from typing import Any

class XmppServiceStub:
    THREADSAFE: bool
    log: Callable[[str], object]
    def __init__(self, log: Callable[[str], object] = ..., service_name: str = "xmpp") -> None: ...
    def MakeSyncCall(
        self, service: str, call: str, request: Any, response: Any, request_id: Any = None
    ) -> None: ...
    def SetError(self, error: Any, method: str | None = None, error_rate: float = 1) -> None: ...
