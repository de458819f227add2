"""What ``appengine-python-standard`` lacks for XMPP, added to it when it is imported."""

from appxmpp import backend
from appxmpp.appengine import rpc
from appxmpp.appengine.sdk import registered_stub


def xmpp_is_enabled():
    """Whether a message sent now would leave at once, or go to a registered stub."""
    return rpc.registered() is not None or backend.get().is_available()


def complete_testbed(testbed):
    """Lets ``init_xmpp_stub`` register the development stub again, instead of raising."""
    service = testbed.XMPP_SERVICE_NAME

    def init_xmpp_stub(self, enable=True):
        """Enables the XMPP stub, or disables it if `enable` is false."""
        if not enable:
            self._disable_stub(service)
            return
        from google.appengine.api.xmpp import xmpp_service_stub

        self._register_stub(service, xmpp_service_stub.XmppServiceStub())

    testbed.Testbed.init_xmpp_stub = init_xmpp_stub
    testbed.INIT_STUB_METHOD_NAMES.setdefault(service, "init_xmpp_stub")
    if service not in testbed.SUPPORTED_SERVICES:
        testbed.SUPPORTED_SERVICES.append(service)
        testbed.SUPPORTED_SERVICES.sort()


def complete_capabilities(capabilities):
    """Lets ``CapabilitySet('xmpp')`` tell whether the server is there.

    A test suite that registered a stub for the capability service keeps it.
    """
    original = capabilities.CapabilitySet._get_status

    def _get_status(self):
        if self._package != "xmpp" or registered_stub("capability_service"):
            return original(self)
        response = capabilities.IsEnabledResponse()
        if xmpp_is_enabled():
            response.summary_status = capabilities.IsEnabledResponse.ENABLED
        else:
            response.summary_status = capabilities.IsEnabledResponse.DISABLED
        return response

    capabilities.CapabilitySet._get_status = _get_status
