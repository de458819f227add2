"""Sends messages as a legacy app does: xmpp.send_message, with one recipient a call or BENCH_RECIPIENTS."""

import os
import sys

from appxmpp import backend
from google.appengine.api import xmpp

SERVER, DOMAIN, SECRET = (os.environ[f"BENCH_{name}"] for name in ("SERVER", "DOMAIN", "SECRET"))
os.environ.update(APPXMPP_BACKEND=f"component://{DOMAIN}@{SERVER}", APPXMPP_SECRET=SECRET, APPXMPP_APP_ID="bot")

recipients = int(os.environ.get("BENCH_RECIPIENTS", "1"))
calls = int(os.environ["BENCH_COUNT"]) // recipients
body = "x" * int(os.environ["BENCH_BODY"])
to = os.environ["BENCH_TO"]
if recipients > 1:
    name, domain = to.split("@")
    to = [f"{name}{i}@{domain}" for i in range(recipients)]

if not backend.get().is_available():
    sys.exit("no stream came up")
print("ready", flush=True)
while sys.stdin.readline():
    for _ in range(calls):
        status = xmpp.send_message(to, body)
        if status != xmpp.NO_ERROR and status != [xmpp.NO_ERROR] * recipients:
            sys.exit(f"send_message answered {status}")
    print("done", flush=True)
