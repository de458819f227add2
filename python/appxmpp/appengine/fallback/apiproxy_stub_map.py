"""The map of service stubs, where Google's SDK is not installed."""


class ListOfHooks(object):
    """Functions that are called before or after each call, in order."""

    def __init__(self):
        self.__content = []

    def __len__(self):
        return len(self.__content)

    def __insert(self, index, key, function, service):
        if any(known == (key, function) for known, _service in self.__content):
            return False
        self.__content.insert(index, ((key, function), service))
        return True

    def Append(self, key, function, service=None):
        """Adds a hook at the end, for `service` or for all; False if it is there already."""
        return self.__insert(len(self), key, function, service)

    def Push(self, key, function, service=None):
        """Adds a hook at the beginning; False if it is there already."""
        return self.__insert(0, key, function, service)

    def Clear(self):
        """Removes all hooks."""
        self.__content = []

    def Call(self, service, call, request, response):
        """Calls the hooks that `service` concerns."""
        for (_key, function), only in self.__content:
            if only is None or only == service:
                function(service, call, request, response)


class APIProxyStubMap(object):
    """Which stub answers for which service."""

    def __init__(self, default_stub=None):
        self.__stub_map = {}
        self.__default_stub = default_stub
        self.__precall_hooks = ListOfHooks()
        self.__postcall_hooks = ListOfHooks()

    def SetDefaultStub(self, stub):
        """Lets `stub` answer for every service without a stub of its own."""
        self.__default_stub = stub

    def GetPreCallHooks(self):
        """The hooks that run before a call."""
        return self.__precall_hooks

    def GetPostCallHooks(self):
        """The hooks that run after a call that succeeded."""
        return self.__postcall_hooks

    def ReplaceStub(self, service, stub):
        """Lets `stub` answer for `service`, whatever answered before."""
        self.__stub_map[service] = stub

    def RegisterStub(self, service, stub):
        """Lets `stub` answer for `service`, which must have no stub yet."""
        assert service not in self.__stub_map, repr(service)
        self.ReplaceStub(service, stub)

    def GetStub(self, service):
        """The stub that answers for `service`, or None."""
        return self.__stub_map.get(service, self.__default_stub)

    def _CopyStubMap(self):
        return dict(self.__stub_map)

    def MakeSyncCall(self, service, call, request, response):
        """Has the stub of `service` answer `request` in `response`."""
        stub = self.GetStub(service)
        assert stub, 'No api proxy found for service "%s"' % service
        self.__precall_hooks.Call(service, call, request, response)
        returned = stub.MakeSyncCall(service, call, request, response)
        self.__postcall_hooks.Call(service, call, request, returned or response)
        return returned


apiproxy = APIProxyStubMap()


def MakeSyncCall(service, call, request, response, stubmap=None):
    """`APIProxyStubMap.MakeSyncCall` of `stubmap`, or of the map in use."""
    return (stubmap or apiproxy).MakeSyncCall(service, call, request, response)
