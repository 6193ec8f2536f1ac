#!/usr/bin/env python3
"""Judges the DKIM signatures of messages, each alone, by dkimpy, by opendkim and by Perl's Mail::DKIM.

Usage: dkim_judge.py ZONE.json MESSAGE...       (run it where it may have namespaces of its own: root or `unshare -r`)

ZONE.json maps owner names to TXT strings. For every DKIM-Signature field of a message a copy is made in which all *other*
DKIM-Signature fields are removed: with two signatures opendkim reports success though one of them is broken. The verdicts
are printed as a JSON array with an array for each message:
[[{"selector":…, "algorithm":…, "dkimpy":true, "opendkim":true, "opendkim_says":"…", "mail_dkim":true}, …], …].
"mail_dkim" is null for algorithms that Debian's Mail::DKIM does not know: all but RSA.

opendkim has no option for a resolver, so this process re-executes itself in a network and mount namespace of its own, in
which 127.0.0.1:53 is answered from the zone and /etc/resolv.conf points there. Nothing outside the namespace changes.
"""
import base64, ctypes, fcntl, json, os, re, shutil, socket, struct, subprocess, sys, tempfile, threading

import dkim
import dnslib

FIELD = re.compile(rb"(?m)^[^\s:]+[ \t]*:.*\r?\n(?:[ \t].*\r?\n)*")


def fields_and_body(message):
    """The header fields as they stand, and everything from the empty line on."""
    end = message.find(b"\r\n\r\n")
    header, body = (message[: end + 2], message[end + 2 :]) if end >= 0 else (message, b"\r\n")
    return FIELD.findall(header), body


def is_signature(field):
    return field.lower().startswith(b"dkim-signature:")


def tag(field, name):
    unfolded = re.sub(rb"\s+", b"", field.split(b":", 1)[1])
    for part in unfolded.split(b";"):
        key, _, value = part.partition(b"=")
        if key == name:
            return value.decode()
    return None


def each_alone(message):
    fields, body = fields_and_body(message)
    for i, field in enumerate(fields):
        if is_signature(field):
            kept = [f for j, f in enumerate(fields) if j == i or not is_signature(f)]
            yield field, b"".join(kept) + body


def by_dkimpy(message, zone):
    def txt(name, timeout=5):
        name = name.decode() if isinstance(name, bytes) else name
        value = zone.get(name.rstrip(".").lower())
        return value.encode() if value is not None else None

    try:
        return dkim.DKIM(message, minkey=1024).verify(dnsfunc=txt)
    except dkim.DKIMException:
        return False


def by_opendkim(message):
    """opendkim-testmsg prints nothing and exits 0 when the message verifies.

    It calls a message without a Date field a syntax error (RFC 5322 section 3.6).
    """
    with tempfile.TemporaryDirectory() as scratch:
        run = subprocess.run(
            [shutil.which("opendkim-testmsg", path=os.environ["PATH"] + ":/usr/sbin"), "-t", scratch],
            input=message, capture_output=True, timeout=60,
        )
    return run.returncode == 0 and not run.stderr, (run.stderr + run.stdout).decode(errors="replace").strip()


def by_mail_dkim(messages):
    """Mail::DKIM's word on each message; one process for all."""
    with tempfile.TemporaryDirectory() as scratch:
        files = []
        for n, message in enumerate(messages):
            files.append(os.path.join(scratch, str(n)))
            with open(files[-1], "wb") as f:
                f.write(message)
        judge = os.path.join(os.path.dirname(os.path.abspath(__file__)), "dkim_judge.pl")
        run = subprocess.run(["perl", judge, *files], capture_output=True, text=True, timeout=600, check=True)
    return run.stdout.split()


class Answers(threading.Thread):
    """A DNS responder on 127.0.0.1:53, UDP, that knows TXT records only."""

    def __init__(self, zone):
        super().__init__(daemon=True)
        self.zone, self.socket = zone, socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 53))

    def run(self):
        while True:
            query, peer = self.socket.recvfrom(4096)
            request = dnslib.DNSRecord.parse(query)
            name = str(request.q.qname).rstrip(".").lower()
            reply = request.reply()
            if name not in self.zone:
                reply.header.rcode = dnslib.RCODE.NXDOMAIN
            elif request.q.qtype == dnslib.QTYPE.TXT:
                text = self.zone[name].encode()
                chunks = [text[i : i + 255] for i in range(0, len(text), 255)]
                reply.add_answer(dnslib.RR(request.q.qname, dnslib.QTYPE.TXT, ttl=60, rdata=dnslib.TXT(chunks)))
            self.socket.sendto(reply.pack(), peer)


def enter_namespace():
    """Loopback up; a resolv.conf of our own. Called inside the namespaces that `unshare` made."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        siocsifflags, iff_up_running = 0x8914, 0x41
        fcntl.ioctl(s, siocsifflags, struct.pack("16sH14s", b"lo", iff_up_running, b""))
    conf = tempfile.NamedTemporaryFile("w", prefix="resolv.", delete=False)
    conf.write("nameserver 127.0.0.1\noptions timeout:2 attempts:1\n")
    conf.close()
    os.chmod(conf.name, 0o644)
    target = os.path.realpath("/etc/resolv.conf")
    subprocess.run(["mount", "--bind", conf.name, target], check=True)
    return conf.name


def main():
    if os.environ.get("DKIM_JUDGE_INSIDE") != "1":
        user = [] if os.geteuid() == 0 else ["--map-root-user"]
        env = dict(os.environ, DKIM_JUDGE_INSIDE="1")
        sys.exit(subprocess.run(["unshare", *user, "--net", "--mount", sys.executable, *sys.argv], env=env).returncode)
    with open(sys.argv[1]) as f:
        zone = {name.rstrip(".").lower(): text for name, text in json.load(f).items()}
    conf = enter_namespace()
    Answers(zone).start()
    copies = []
    for number, name in enumerate(sys.argv[2:]):
        with open(name, "rb") as f:
            copies += [(number, field, alone) for field, alone in each_alone(f.read())]
    verdicts = [[] for _ in sys.argv[2:]]
    for (number, field, alone), perl in zip(copies, by_mail_dkim([alone for _, _, alone in copies]), strict=True):
        good, says = by_opendkim(alone)
        algorithm = tag(field, b"a")
        verdicts[number].append({
            "selector": tag(field, b"s"), "algorithm": algorithm, "domain": tag(field, b"d"),
            "dkimpy": by_dkimpy(alone, zone), "opendkim": good, "opendkim_says": says,
            "mail_dkim": perl == "pass" if algorithm.startswith("rsa-") else None,
        })
    os.unlink(conf)
    print(json.dumps(verdicts))


if __name__ == "__main__":
    main()
