"""Calls by way of the stub map: for test suites that registered a stub of their own."""

from appxmpp.appengine import service_pb
from appxmpp.appengine.sdk import apiproxy_errors, apiproxy_stub_map, registered_stub
from appxmpp.backend import Backend
from appxmpp.errors import ServiceError


class StubMapBackend(Backend):
    """A backend that speaks to the stub registered as ``xmpp``."""

    def send_message(self, jids, body, from_jid, message_type, raw_xml):
        request = service_pb.XmppMessageRequest()
        for jid in jids:
            request.add_jid(jid)
        request.set_body(body)
        request.set_raw_xml(raw_xml)
        request.set_type(message_type)
        response = _call("SendMessage", request, from_jid, service_pb.XmppMessageResponse())
        return list(response.status_list())

    def send_presence(self, jid, presence_type, show, status, from_jid):
        request = service_pb.XmppSendPresenceRequest()
        request.set_jid(jid)
        if presence_type:
            request.set_type(presence_type)
        if show:
            request.set_show(show)
        if status:
            request.set_status(status)
        _call("SendPresence", request, from_jid, service_pb.XmppSendPresenceResponse())

    def send_invite(self, jid, from_jid):
        request = service_pb.XmppInviteRequest()
        request.set_jid(jid)
        _call("SendInvite", request, from_jid, service_pb.XmppInviteResponse())

    def get_presence(self, jids, from_jid):
        request = service_pb.BulkPresenceRequest()
        for jid in jids:
            request.add_jid(jid)
        response = _call("BulkGetPresence", request, from_jid, service_pb.BulkPresenceResponse())
        return [
            (
                bool(one.is_available()),
                one.presence() if one.has_presence() else None,
                one.valid() if one.has_valid() else None,
            )
            for one in response.presence_response_list()
        ]


def _call(method, request, from_jid, response):
    if from_jid:
        request.set_from_jid(from_jid)
    try:
        returned = apiproxy_stub_map.MakeSyncCall("xmpp", method, request, response)
    except apiproxy_errors.ApplicationError as error:
        failure = ServiceError(error.application_error, error.error_detail or "")
    else:
        return returned or response
    raise failure


_stub_map_backend = StubMapBackend()


def registered():
    """The stub map as a backend if it has a stub for XMPP, else None."""
    return _stub_map_backend if registered_stub("xmpp") else None
