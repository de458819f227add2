"""The base of service stubs, where Google's SDK is not installed."""

import random
import threading

from google.appengine.runtime import apiproxy_errors

MAX_REQUEST_SIZE = 1 << 20


class APIProxyStub(object):
    """Answers calls with its methods ``_Dynamic_<call>(request, response)``."""

    THREADSAFE = False

    def __init__(self, service_name, max_request_size=MAX_REQUEST_SIZE, request_data=None):
        self.__service_name = service_name
        self.__max_request_size = max_request_size
        self.request_data = request_data
        self._mutex = threading.RLock()
        self.__errors = {}

    def MakeSyncCall(self, service, call, request, response, request_id=None):
        """Checks the request and calls the method that answers it."""
        assert service == self.__service_name, 'Expected "%s" service name, was "%s"' % (
            self.__service_name,
            service,
        )
        if request.ByteSize() > self.__max_request_size:
            raise apiproxy_errors.RequestTooLargeError(
                "The request to API call %s.%s() was too large." % (service, call)
            )
        missing = []
        assert request.IsInitialized(missing), missing
        for key in (call, None):
            error, rate = self.__errors.get(key, (None, 0))
            if error is not None and random.random() <= rate:
                raise error
        getattr(self, "_Dynamic_" + call)(request, response)

    def SetError(self, error, method=None, error_rate=1):
        """Fails calls of `method` (or all) with `error`; None ends that."""
        self.__errors[method] = (error, error_rate)
