"""What the API shares with Google's SDK: the SDK's own modules where it is installed.

Where it is not, the import finder answers with the modules in ``fallback/``,
under the same names, so that test suites find one stub map and one set of
transport errors either way.
"""

from google.appengine.api import apiproxy_stub, apiproxy_stub_map
from google.appengine.runtime import apiproxy_errors

__all__ = ["apiproxy_errors", "apiproxy_stub", "apiproxy_stub_map", "registered_stub"]

# In production Google's SDK answers for every service; it has no XMPP any more.
_SDK_DEFAULT = "google.appengine.runtime.default_api_stub"


def registered_stub(service):
    """The stub that a test suite registered for `service`, or None."""
    stub = apiproxy_stub_map.apiproxy.GetStub(service)
    return None if type(stub).__module__ == _SDK_DEFAULT else stub
