from types import ModuleType
from typing import Any

__all__ = ["apiproxy_errors", "apiproxy_stub", "apiproxy_stub_map", "registered_stub"]

# Google's own modules, which have no types, or ours of the same names.
apiproxy_errors: ModuleType
apiproxy_stub: ModuleType
apiproxy_stub_map: ModuleType

def registered_stub(service: str) -> Any: ...
