"""Sends messages with slixmpp's ComponentXMPP, as its users do: make_message and send, one by one."""

import asyncio
import sys

from slixmpp_peer import Peer, run, say, setting


class Send(Peer):
    async def ready(self) -> None:
        to, count, body = setting("BENCH_TO"), int(setting("BENCH_COUNT")), "x" * int(setting("BENCH_BODY"))
        sender = f"bot@{setting('BENCH_DOMAIN')}/bot"
        say("ready")
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, sys.stdin.readline):
            for done in range(count):
                self.send_message(mto=to, mbody=body, mtype="chat", mfrom=sender)
                if done % 256 == 255:
                    await asyncio.sleep(0)  # its writer runs only when the loop does
            say("done")


run(Send())
