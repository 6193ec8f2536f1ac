#!/usr/bin/env python3
"""A CMPP client that others wrote: `pycmpp` speaks 2.0, `cmppy` 3.0. Logs in and submits one text.

Usage: cmpp_client.py pycmpp|cmppy PORT SP_ID SECRET TEXT

Its last line is {"status", "ismg": BOOL, "result", "msg_id"}: how the login went, whether the gateway showed that it knows the
secret, and how the text went. The libraries' own loops ask for no answers; the octets of request and answer are theirs.
"""
import hashlib, json, socket, struct, sys

import cmppy
from pycmpp.request import ConnectRequestInstance, SubmitRequestInstance
from pycmpp.response import ConnectResponseInstance, SubmitResponseInstance

library, port, sp_id, secret, text = sys.argv[1:]
connection = socket.create_connection(("127.0.0.1", int(port)))


def ask(message):
    connection.sendall(message)
    answer = b""
    while len(answer) < 4 or len(answer) < struct.unpack("!L", answer[:4])[0]:
        more = connection.recv(4096)
        if not more:
            sys.exit("the connection ended")
        answer += more
    return answer[:struct.unpack("!L", answer[:4])[0]]


def by_pycmpp():
    request, response = ConnectRequestInstance(), ConnectResponseInstance()
    response.resolve(ask(request.create(sp_id, secret)))
    status = bytes([response.status])
    ismg = hashlib.md5(status + request.auth_source + secret.encode()).digest() == response.authenticator_ISMG
    if response.status != 0:
        return {"status": response.status, "ismg": ismg}
    submitted = SubmitResponseInstance()
    submitted.resolve(ask(SubmitRequestInstance().create(sp_id, text, ["13800138000"])))
    return {"status": 0, "ismg": ismg, "result": submitted.status, "msg_id": submitted.msg_id}


def by_cmppy():
    request = cmppy.ConnectReq(sp_id, secret)
    response = cmppy.parse_response(ask(request.message))
    source = request.authenticator_source + secret.encode()
    ismg = hashlib.md5(response.raw_status + source).digest() == response.authenticator_ISMG
    if response.status != 0:
        return {"status": response.status, "ismg": ismg}
    submitted = cmppy.parse_response(ask(cmppy.SubmitReq(sp_id, text).message))
    return {"status": 0, "ismg": ismg, "result": submitted.result, "msg_id": submitted.msg_id}


print(json.dumps(by_pycmpp() if library == "pycmpp" else by_cmppy()))
