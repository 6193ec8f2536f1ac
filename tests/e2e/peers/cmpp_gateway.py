#!/usr/bin/env python3
"""A CMPP 2.0 gateway that reads with PyPI's `pycmpp`: says on standard output, one JSON object a line, what it was sent.

Usage: cmpp_gateway.py PORT SP_ID SECRET    (0: any; the first line printed is {"listening": PORT})

A login is printed as {"pdu": "connect", "length", "version", "authentic": BOOL}, a part as {"pdu": "submit"} with the fields that
pycmpp reads of it. Each part is taken, and a report DELIVRD sent behind its answer in the same write; what answers that is printed
as {"pdu": "deliver_resp", "result", "msg_id_kept": BOOL}. pycmpp is a client: what a gateway says is packed here.
"""
import json, socket, struct, sys, threading

from pycmpp.cmpp_defines import *
from pycmpp.request import SubmitRequestInstance
from pycmpp.utils import decode_headers, get_md5_digest

SP_ID, SECRET = sys.argv[2].encode(), sys.argv[3].encode()
GATEWAY = 123456


def tell(what):
    print(json.dumps(what), flush=True)


def exactly(connection, length):
    octets = b""
    while len(octets) < length:
        more = connection.recv(length - len(octets))
        if not more:
            raise EOFError
        octets += more
    return octets


def frame(command, sequence, body=b""):
    return struct.pack("!LLL", 12 + len(body), command, sequence) + body


def report(number, msg_id, to):
    """The DELIVER of a report: 73 octets and 60 of content."""
    content = struct.pack("!Q7s10s10s21sL", msg_id, b"DELIVRD", b"2611240224", b"2611240225", to, number)
    head = struct.pack("!Q21s10sBBB21sBB", number, b"10690001", b"SVC", 0, 0, 0, to, 1, len(content))
    return frame(CMPP_DELIVER_REQ, number, head + content + bytes(8))


def serve(connection):
    taken = 0
    while True:
        message = exactly(connection, 12)
        length, command, sequence = decode_headers(message)
        message += exactly(connection, length - 12)
        body = message[12:]
        if command == CMPP_CONNECT_REQ:
            time = struct.unpack("!L", body[23:27])[0]
            source = get_md5_digest(SP_ID + bytes(9) + SECRET + b"%010d" % time)
            authentic = body[:6] == SP_ID and body[6:22] == source
            tell({"pdu": "connect", "length": length, "version": body[22], "authentic": authentic})
            status = bytes([0 if authentic else 3])
            answer = status + get_md5_digest(status + source + SECRET) + b"\x20"
            connection.sendall(frame(CMPP_CONNECT_RESP, sequence, answer))
        elif command == CMPP_SUBMIT_REQ:
            fields = SubmitRequestInstance().resolve(message)
            tell({"pdu": "submit", **fields})
            taken += 1
            msg_id = GATEWAY << 16 | taken
            answer = frame(CMPP_SUBMIT_RESP, sequence, struct.pack("!QB", msg_id, 0))
            to = fields["dest_terminal_id"].rstrip("\0").encode()
            connection.sendall(answer + report(1000 + taken, msg_id, to))
        elif command == CMPP_DELIVER_RESP:
            msg_id, result = struct.unpack("!QB", body)
            tell({"pdu": "deliver_resp", "result": result, "msg_id_kept": msg_id == sequence})
        elif command == CMPP_ACTIVE_TEST_REQ:
            connection.sendall(frame(CMPP_ACTIVE_TEST_RESP, sequence))
        elif command == CMPP_TERMINATE_REQ:
            connection.sendall(frame(CMPP_TERMINATE_RESP, sequence))
            return


def client(connection):
    with connection:
        try:
            serve(connection)
        except (EOFError, OSError):
            pass


server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
tell({"listening": server.getsockname()[1]})
while True:
    threading.Thread(target=client, args=(server.accept()[0],), daemon=True).start()
