#!/usr/bin/env python3
"""An SMPP client that others wrote (`smpplib`), steered by lines of JSON on standard input.

Usage: smpp_client.py PORT SYSTEM_ID PASSWORD transmitter|receiver|transceiver [CA_FILE]

Says {"listening": PORT} once it is bound, or {"bind": STATUS} and ends; then for each line
  {"submit": {…}}   what `smpplib` calls the fields; "hex" stands for short_message in hexadecimal
  {"refuse": STATUS} deliveries are answered so from now on; 0 takes them
  {"unbind": true}  unbinds and ends
  {"drop": true}    closes without a word
and, as they come, {"answer": {"n", "status", "id"}} (n counts submissions from 0), {"delivery": {…}} and {"unbound": true}.
"""
import json, os, select, ssl, sys, warnings

import smpplib.client, smpplib.exceptions, smpplib.smpp

warnings.simplefilter("ignore")
port, system_id, password, mode = sys.argv[1:5]


def say(**what):
    print(json.dumps(what), flush=True)


context = None
if len(sys.argv) > 5:
    context = ssl.create_default_context(cafile=sys.argv[5])
    context.check_hostname = False
client = smpplib.client.Client("127.0.0.1", int(port), timeout=20, ssl_context=context, allow_unknown_opt_params=True)
client.connect()
try:
    getattr(client, "bind_" + mode)(system_id=system_id, password=password)
except smpplib.exceptions.PDUError as error:
    say(bind=error.args[1], listening=int(port))
    sys.exit()
say(listening=int(port))
client._socket.settimeout(30)
numbers, refuse, left = {}, 0, b""


def delivered(pdu):
    shown = ("source_addr", "destination_addr", "short_message", "message_payload", "receipted_message_id")
    text = {name: (getattr(pdu, name, None) or b"").decode("latin-1") for name in shown}
    state = getattr(pdu, "message_state", None)
    say(delivery={**text, "esm_class": pdu.esm_class, "data_coding": pdu.data_coding, "message_state": state,
                  "source_ton": pdu.source_addr_ton})
    return refuse


def answered(pdu):
    if pdu.is_error():
        return  # `failed` has said so
    message_id = getattr(pdu, "message_id", None) or b""
    say(answer={"n": numbers.get(pdu.sequence), "status": int(pdu.status), "id": message_id.decode()})


def failed(pdu):
    say(answer={"n": numbers.get(pdu.sequence), "status": int(pdu.status), "id": "", "command": pdu.command})


def submit(fields):
    if "hex" in fields:
        fields["short_message"] = bytes.fromhex(fields.pop("hex"))
    elif "short_message" in fields:
        fields["short_message"] = fields["short_message"].encode()
    fields = {"source_addr_ton": 0, "dest_addr_ton": 1, "dest_addr_npi": 1, "source_addr": "", **fields}
    pdu = client.send_message(**fields)
    numbers[pdu.sequence] = len(numbers)


client.set_message_received_handler(lambda pdu: delivered(pdu))
client.set_message_sent_handler(lambda pdu: answered(pdu))
client.set_error_pdu_handler(failed)


def pending():
    return isinstance(client._socket, ssl.SSLSocket) and client._socket.pending()


while True:
    ready, _, _ = select.select([client._socket, 0], [], [], 0 if pending() else None)
    if client._socket in ready or pending():
        try:
            client.read_once(auto_send_enquire_link=False)
        except smpplib.exceptions.PDUError:
            pass
        except smpplib.exceptions.ConnectionError:
            say(unbound=True)
            sys.exit()
    if 0 in ready:
        more = os.read(0, 65536)
        if not more:
            sys.exit()
        *lines, left = (left + more).split(b"\n")
        for line in lines:
            order = json.loads(line)
            if "submit" in order:
                submit(order["submit"])
            elif "refuse" in order:
                refuse = order["refuse"]
                say(steered=True)
            elif "unbind" in order:
                client.send_pdu(smpplib.smpp.make_pdu("unbind", client=client))
            elif "drop" in order:
                os._exit(0)
