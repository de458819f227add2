from collections.abc import Iterable
from typing import Final, Literal, TypeAlias, overload

NO_ERROR: Final = 0
INVALID_JID: Final = 1
OTHER_ERROR: Final = 2

MESSAGE_TYPE_NONE: Final = ""
MESSAGE_TYPE_CHAT: Final = "chat"
MESSAGE_TYPE_ERROR: Final = "error"
MESSAGE_TYPE_GROUPCHAT: Final = "groupchat"
MESSAGE_TYPE_HEADLINE: Final = "headline"
MESSAGE_TYPE_NORMAL: Final = "normal"

PRESENCE_TYPE_AVAILABLE: Final = ""
PRESENCE_TYPE_UNAVAILABLE: Final = "unavailable"
PRESENCE_TYPE_PROBE: Final = "probe"

PRESENCE_SHOW_NONE: Final = ""
PRESENCE_SHOW_AWAY: Final = "away"
PRESENCE_SHOW_CHAT: Final = "chat"
PRESENCE_SHOW_DND: Final = "dnd"
PRESENCE_SHOW_XA: Final = "xa"

MAX_STATUS_MESSAGE_SIZE: Final = 1024

_VALID_MESSAGE_TYPES: frozenset[str]
_VALID_PRESENCE_TYPES: frozenset[str]
_VALID_PRESENCE_SHOWS: frozenset[str]
_PRESENCE_SHOW_MAPPING: dict[int, str]

_Text: TypeAlias = str | bytes

def _to_str(value: _Text) -> str: ...
@overload
def get_presence(  # type: ignore[overload-overlap]  # a text is an iterable too
    jid: _Text, from_jid: _Text | None = None, get_show: Literal[False] = False
) -> bool: ...
@overload
def get_presence(  # type: ignore[overload-overlap]  # a text is an iterable too
    jid: _Text, from_jid: _Text | None, get_show: Literal[True]
) -> tuple[bool, str | None]: ...
@overload
def get_presence(  # type: ignore[overload-overlap]  # a text is an iterable too
    jid: _Text, from_jid: _Text | None = None, *, get_show: Literal[True]
) -> tuple[bool, str | None]: ...
@overload
def get_presence(
    jid: Iterable[_Text], from_jid: _Text | None = None, get_show: bool = False
) -> list[tuple[bool, str | None, bool]]: ...
def send_invite(jid: _Text, from_jid: _Text | None = None) -> None: ...
@overload
def send_message(  # type: ignore[overload-overlap]  # a text is an iterable too
    jids: _Text,
    body: _Text,
    from_jid: _Text | None = None,
    message_type: _Text = "chat",
    raw_xml: bool = False,
) -> int: ...
@overload
def send_message(
    jids: Iterable[_Text],
    body: _Text,
    from_jid: _Text | None = None,
    message_type: _Text = "chat",
    raw_xml: bool = False,
) -> list[int]: ...
def send_presence(
    jid: _Text,
    status: _Text | None = None,
    from_jid: _Text | None = None,
    presence_type: _Text | None = "",
    presence_show: _Text | None = "",
) -> None: ...
