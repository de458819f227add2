from typing import Any

from appxmpp.appengine.webapp import (
    Error as Error,
    RequestHandler as RequestHandler,
    _config_handle as _config_handle,
    handle_exception_classic as handle_exception_classic,
    is_classic as is_classic,
)

# Everything public of webapp2, which has no types of its own.
def __getattr__(name: str) -> Any: ...
