"""Faults under load: what was acknowledged arrives, once or with the same id, in its sender's order.

`python -m support.faults --runs 200` breaks something in each run: the gateway, the XMPP server, the network between
them, the app, the disk or the clock, while contacts write to the app and the app writes to contacts. `make test-faults`
does it.
"""
