"""What the slixmpp peers share."""

import os
import sys

from slixmpp.componentxmpp import ComponentXMPP


def setting(name: str) -> str:
    return os.environ[name]


def say(line: str) -> None:
    print(line, flush=True)


class Peer(ComponentXMPP):
    def __init__(self) -> None:
        host, port = setting("BENCH_SERVER").rsplit(":", 1)
        super().__init__(setting("BENCH_DOMAIN"), setting("BENCH_SECRET"), host, int(port))
        self.add_event_handler("session_start", self._session_start)
        self.add_event_handler("failed_auth", lambda _event: sys.exit("the server refused the handshake"))

    async def _session_start(self, _event) -> None:
        await self.ready()

    async def ready(self) -> None:
        raise NotImplementedError


def run(peer: Peer) -> None:
    peer.connect()
    peer.loop.run_forever()
