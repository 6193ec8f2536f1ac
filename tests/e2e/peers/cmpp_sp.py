#!/usr/bin/env python3
"""A service provider that others wrote: `pycmpp`, with its own loop, its own SUBMITs and its own answers to ACTIVE_TEST.

Usage: cmpp_sp.py PORT SP_ID SECRET DELIVERY

Orders come line by line: {"submit": TEXT, "to": [NUMBER …]}. It says {"listening": PORT} once it is logged in, {"answer": RESULT,
"msg_id": ID} for each SUBMIT_RESP, {"asked": true} for each ACTIVE_TEST that it has answered, {"closed": true} at the end. It knows no
DELIVER: what is done with one is ours, and says {"report": ID, "stat", "to"}.
"""
import json, socket, struct, sys, threading

from pycmpp import handlers
from pycmpp.cmpp import Cmpp
from pycmpp.cmpp_defines import CMPP_ACTIVE_TEST_REQ, CMPP_CONNECT_RESP, CMPP_SUBMIT_RESP
from pycmpp.response import ConnectResponseInstance, SubmitResponseInstance

port, sp_id, secret, delivery = sys.argv[1:]
told = threading.Lock()


def say(**what):
    with told:
        print(json.dumps(what), flush=True)


class Connection:
    """The library reads on and on after the end of its connection: that ends the program here."""

    def __init__(self):
        self.so = socket.socket(socket.AF_INET, socket.SOCK_STREAM)

    def recv(self, octets):
        if octets == 0:  # the rest of a PDU that is all header
            return b""
        try:
            heard = self.so.recv(octets)
        except OSError:
            heard = b""
        if not heard:
            say(closed=True)
            sys.exit(0)
        return heard

    def __getattr__(self, name):
        return getattr(self.so, name)


class Connected(handlers.CmppConnectRespHandler):
    def __call__(self):
        response = ConnectResponseInstance()
        response.resolve(self.message)
        say(listening=int(port)) if response.status == 0 else say(refused=response.status)


class Submitted(handlers.CmppSubmitRespHandler):
    def __call__(self):
        response = SubmitResponseInstance()
        response.resolve(self.message)
        say(answer=response.status, msg_id=f"{response.msg_id:016x}")


class Asked(handlers.CmppActiveTestReqHandler):
    def __call__(self):
        super().__call__()
        say(asked=True)


class Delivered(handlers.BaseHandler):
    def __call__(self):
        (sequence,) = struct.unpack("!L", self.message[8:12])
        body = self.message[12:]
        content = body[65:65 + body[64]]
        say(report=content[:8].hex(), stat=content[8:15].decode(), to=content[35:56].rstrip(b"\0").decode())
        self.cmpp.send(struct.pack("!3L8sB", 21, 0x80000005, sequence, body[:8], 0))


client = Cmpp("127.0.0.1", int(port), sp_id, secret, "", delivery=int(delivery), client_heartbeat=False)
client.so = Connection()
client.handlers.update({5: Delivered, CMPP_CONNECT_RESP: Connected, CMPP_SUBMIT_RESP: Submitted, CMPP_ACTIVE_TEST_REQ: Asked})


def obey():
    for line in sys.stdin:
        order = json.loads(line)
        client.submit(order["submit"], order["to"])


threading.Thread(target=obey, daemon=True).start()
client.run()
