"""Echo with slixmpp's ComponentXMPP."""

from slixmpp_peer import Peer, run, say


class Echo(Peer):
    async def ready(self) -> None:
        self.add_event_handler("message", self.echo)
        say("ready")

    def echo(self, message) -> None:
        if message["type"] != "error":
            reply = message.reply(message["body"])
            reply["id"] = message["id"]
            reply.send()


run(Echo())
