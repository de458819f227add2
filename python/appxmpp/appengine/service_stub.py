"""`XmppServiceStub`: the development stub behind the stub map of a test suite."""

import logging

from appxmpp.appengine.sdk import apiproxy_errors, apiproxy_stub
from appxmpp.devstub import Stub
from appxmpp.errors import ServiceError


class XmppServiceStub(apiproxy_stub.APIProxyStub):
    """Sends nothing; hands one text per call to `log`."""

    THREADSAFE = True

    def __init__(self, log=logging.info, service_name="xmpp"):
        super(XmppServiceStub, self).__init__(service_name)
        self.log = log

    def _refuse_as_application_error(self, operation, *arguments):
        # `log` is looked up anew: tests replace it on a stub that exists.
        stub = Stub(log=lambda text: self.log(text))
        try:
            return getattr(stub, operation)(*arguments)
        except ServiceError as error:
            failure = apiproxy_errors.ApplicationError(error.code, error.text)
        raise failure

    def _Dynamic_SendMessage(self, request, response):
        statuses = self._refuse_as_application_error(
            "send_message",
            request.jid_list(),
            request.body(),
            request.from_jid(),
            request.type(),
            request.raw_xml(),
        )
        for status in statuses:
            response.add_status(status)

    def _Dynamic_SendInvite(self, request, response):
        self._refuse_as_application_error("send_invite", request.jid(), request.from_jid())

    def _Dynamic_SendPresence(self, request, response):
        self._refuse_as_application_error(
            "send_presence",
            request.jid(),
            request.type(),
            request.show(),
            request.status(),
            request.from_jid(),
        )

    def _Dynamic_GetPresence(self, request, response):
        self._fill(request.from_jid(), [request.jid()], [response])

    def _Dynamic_BulkGetPresence(self, request, response):
        jids = request.jid_list()
        responses = [response.add_presence_response() for _jid in jids]
        self._fill(request.from_jid(), jids, responses)

    def _fill(self, from_jid, jids, responses):
        answers = self._refuse_as_application_error("get_presence", jids, from_jid)
        for response, (available, show, valid) in zip(responses, answers):
            response.set_is_available(available)
            response.set_presence(show)
            response.set_valid(valid)


XmppServiceStub.__module__ = "google.appengine.api.xmpp.xmpp_service_stub"
