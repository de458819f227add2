from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

TOLERANCE: int
MAX_BODY: int
REMEMBERED: int
REMOTE_ADDR: str
PATHS: tuple[str, ...]
BUSY_RETRY: int
NEW: str
BUSY: str
HANDLED: str

_Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]
_Asgi = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]

def secret_from(environ: MutableMapping[str, str] | dict[str, str]) -> str: ...

class Verifier:
    def __init__(
        self,
        secret: str | bytes | None = None,
        paths: Iterable[str] = ...,
        tolerance: int = 300,
        clock: Callable[[], float] = ...,
    ) -> None: ...
    def protects(self, path: str) -> bool: ...
    def accepts(self, signature: str | None, delivery: str | None, body: bytes) -> bool: ...
    def begin(self, delivery: str) -> str: ...
    def end(self, delivery: str, handled: bool) -> None: ...

def wsgi(app: _Wsgi, secret: str | bytes | None = None, **options: Any) -> _Wsgi: ...
def asgi(app: _Asgi, secret: str | bytes | None = None, **options: Any) -> _Asgi: ...
def middleware(app: _Wsgi, secret: str | bytes | None = None, **options: Any) -> _Wsgi: ...
