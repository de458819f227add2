from collections.abc import Callable
from types import ModuleType
from typing import Any, type_check_only

from appxmpp.middleware import Verifier as _Verifier, _Asgi, _Wsgi

__version__: str

# A module that is callable.
@type_check_only
class _Middleware(ModuleType):
    TOLERANCE: int
    MAX_BODY: int
    REMEMBERED: int
    REMOTE_ADDR: str
    PATHS: tuple[str, ...]
    Verifier: type[_Verifier]
    secret_from: Callable[[dict[str, str]], str]
    def __call__(self, app: _Wsgi, secret: str | bytes | None = None, **options: Any) -> _Wsgi: ...
    def wsgi(self, app: _Wsgi, secret: str | bytes | None = None, **options: Any) -> _Wsgi: ...
    def asgi(self, app: _Asgi, secret: str | bytes | None = None, **options: Any) -> _Asgi: ...
    def middleware(
        self, app: _Wsgi, secret: str | bytes | None = None, **options: Any
    ) -> _Wsgi: ...

middleware: _Middleware
