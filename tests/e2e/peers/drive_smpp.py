#!/usr/bin/env python3
"""Kannel's `drive_smpp`: a message centre that others wrote, made to drive Kannel's bearerbox.

    drive_smpp.py PROGRAM MESSAGES

It takes transmitters and receivers, no transceivers, sends MESSAGES to the receiver and answers what the transmitter submits.
Beside that it wants to be an smsbox of the bearerbox, at a port of its own choice: somebody who says nothing listens there.
Prints {"listening": PORT} once it listens, then {"submitted": N, "answered": N} whenever that has changed: submissions it has had, and
answers to its own messages.
"""
import json, pathlib, re, socket, subprocess, sys, tempfile, threading, time

BEARERBOX = 13_001

program, messages = sys.argv[1:]
box = socket.create_server(("127.0.0.1", BEARERBOX))


def silent():
    while True:
        connection, _ = box.accept()
        threading.Thread(target=lambda: [None for _ in iter(lambda: connection.recv(4096), b"")], daemon=True).start()


threading.Thread(target=silent, daemon=True).start()
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
with tempfile.TemporaryDirectory() as scratch:
    # Its debug log names each PDU.
    process = subprocess.Popen(
        [program, "-v", "0", "-p", str(port), "-m", messages], cwd=scratch, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace",
    )
    try:
        # It counts who connects, so it is not asked by a connection: 0A is LISTEN.
        listens = re.compile(rf"0100007F:{port:04X} \S+ 0A|00000000:{port:04X} \S+ 0A")
        while not listens.search(pathlib.Path("/proc/net/tcp").read_text()):
            if process.poll() is not None:
                raise SystemExit(process.stdout.read())
            time.sleep(0.02)
        print(json.dumps({"listening": port}), flush=True)
        counts = {"submit_sm": 0, "deliver_sm_resp": 0}
        for line in process.stdout:
            if kind := re.search(r"PDU of type (submit_sm|deliver_sm_resp)$", line):
                counts[kind[1]] += 1
                told = {"submitted": counts["submit_sm"], "answered": counts["deliver_sm_resp"]}
                print(json.dumps(told), flush=True)
    finally:
        process.kill()
