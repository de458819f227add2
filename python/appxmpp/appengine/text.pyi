from typing import TypeVar, overload

_T = TypeVar("_T")

STRING_TYPES: tuple[type, ...]

@overload
def to_str(value: bytes) -> str: ...
@overload
def to_str(value: _T) -> _T: ...
def utf8_length(value: str | bytes) -> int: ...
