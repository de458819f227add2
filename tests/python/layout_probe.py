"""Run by the interpreter of an installation layout: is everything importable and in working order?

``layout_probe.py golden.json [sdk] [webapp]``; prints ``layout ok`` at the end.
"""

import importlib
import json
import os
import sys

import appxmpp  # noqa: F401  (in a folder on PYTHONPATH this is what makes the rest importable)

GOLDEN, WANTED = sys.argv[1], sys.argv[2:]


def chat():
    from google.appengine.api import xmpp

    assert xmpp.send_message.__module__ == "google.appengine.api.xmpp"
    os.environ["APPLICATION_ID"] = "s~myapp"
    assert xmpp.send_message("a@b", "hi") == 0
    import golden_runner

    with open(GOLDEN, encoding="utf-8") as file:
        records = json.load(file)["api"]
    for record in records:
        golden_runner.check_api(record)
    assert len(records) == 181


def stub_map():
    from google.appengine.api import apiproxy_stub, apiproxy_stub_map
    from google.appengine.api.xmpp import xmpp_service_stub
    from google.appengine.runtime import apiproxy_errors

    for module in (apiproxy_stub, apiproxy_stub_map, apiproxy_errors):
        assert ("fallback" in module.__file__) == ("sdk" not in WANTED), module.__file__
    assert issubclass(xmpp_service_stub.XmppServiceStub, apiproxy_stub.APIProxyStub)


def sdk():
    """Google's SDK is whole, and completed."""
    from google.appengine.api import capabilities, memcache, users, wrap_wsgi_app, xmpp
    from google.appengine.ext import deferred, testbed

    assert callable(wrap_wsgi_app)
    assert users.__name__ == "google.appengine.api.users"
    assert memcache.__name__ == "google.appengine.api.memcache"
    bed = testbed.Testbed()
    bed.activate()
    log = []
    try:
        bed.init_xmpp_stub()
        bed.get_stub(testbed.XMPP_SERVICE_NAME).log = log.append
        assert xmpp.send_message("a@b", "from a testbed") == 0
        assert xmpp.send_message("a@b", "x", "myapp@appspot.com") == 0
        assert xmpp.get_presence(["a@b", "z@b"]) == [(True, "away", True), (False, "away", True)]
        function, args, keywords = deferred.deferred.pickle.loads(
            deferred.deferred.serialize(xmpp.send_message, jids="c@d", body="later")
        )
        assert function(*args, **keywords) == 0
        assert [text.split("\n")[4].strip() for text in log] == ["from a testbed", "x", "later"]
        bed.init_xmpp_stub(enable=False)
        assert bed.get_stub(testbed.XMPP_SERVICE_NAME) is None
        bed.init_xmpp_stub()
        bed.init_capability_stub()
        bed.get_stub("capability_service").SetPackageEnabled("xmpp", False)
        assert not capabilities.CapabilitySet("xmpp").is_enabled()
    finally:
        bed.deactivate()
    assert capabilities.CapabilitySet("xmpp").is_enabled()
    os.environ["APPXMPP_BACKEND"] = "none:"
    from appxmpp import backend

    backend.set(None)
    assert not capabilities.CapabilitySet("xmpp").is_enabled()
    assert not capabilities.CapabilitySet("xmpp").will_remain_enabled_for(60)


def no_sdk():
    """Nothing pretends that the rest of Google's SDK is here."""
    for name in ("users", "memcache", "urlfetch", "app_identity"):
        try:
            importlib.import_module("google.appengine.api." + name)
        except ImportError:
            continue
        raise AssertionError(name)


def webapp():
    from google.appengine.ext import webapp
    from google.appengine.ext.webapp import util, xmpp_handlers

    assert issubclass(xmpp_handlers.CommandHandler, webapp.RequestHandler)
    import webapp2

    assert webapp2._webapp_util is util


chat()
stub_map()
sdk() if "sdk" in WANTED else no_sdk()
if "webapp" in WANTED:
    webapp()
print("layout ok")
