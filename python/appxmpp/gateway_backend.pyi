from http.client import HTTPConnection
from typing import Any

from appxmpp.backend import Backend

TIMEOUT: float
IDLE: float

class Address:
    scheme: str
    domain: str
    secret: str | None
    place: str
    path: str
    def __init__(self, text: str, secret: str | None = None) -> None: ...
    def connect(self, timeout: float = 30.0) -> HTTPConnection: ...
    def headers(self) -> dict[str, str]: ...

class Http:
    def __init__(self, address: Address) -> None: ...
    def post(
        self, path: str, body: Any, content_type: str = ..., harmless: bool = False
    ) -> tuple[int, Any]: ...
    def close(self) -> None: ...

class Gateway(Backend):
    def __init__(self, address: Address) -> None: ...

class ModRest(Backend):
    def __init__(self, address: Address) -> None: ...

def open_backend(address: str, secret: str | None = None) -> Backend: ...
