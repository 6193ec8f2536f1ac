#!/usr/bin/env python3
"""An independent SMTP sink (aiosmtpd): says on standard output, one JSON object a line, what it was sent.

Usage: sink.py PORT [CERTIFICATE KEY]    (0: any; the first line printed is {"listening": PORT}; with a certificate it offers
                                          STARTTLS)

Each mail is printed as {"peer", "hello", "from", "to": [...], "mail_options": [...], "tls": BOOL, "subject", "data": BASE64}. Lines
on standard input steer it:
{"rcpt": "550 5.1.1 no such user"} answers every RCPT so, {"data": "452 4.2.2 full"} every end of data; null takes it back.
{"requiretls": true} offers REQUIRETLS inside TLS; where it was asked for, it stands in "mail_options".
"""
import asyncio, base64, json, ssl, sys

from aiosmtpd.smtp import SMTP


class RequireTls(SMTP):
    """aiosmtpd knows no REQUIRETLS: its one parameter is taken out of MAIL and put among the options."""

    async def smtp_MAIL(self, arg):
        words = arg.split(" ") if arg else []
        asked = self.event_handler.requiretls and self.session.ssl is not None and "REQUIRETLS" in words
        await super().smtp_MAIL(" ".join(w for w in words if w != "REQUIRETLS") if asked else arg)
        if asked and self.envelope.mail_from is not None:
            self.envelope.mail_options.append("REQUIRETLS")


class Sink:
    rcpt = None
    data = None
    requiretls = False

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        session.host_name = hostname
        if self.requiretls and session.ssl is not None:
            responses.insert(-1, "250-REQUIRETLS")
        return responses

    async def handle_RCPT(self, server, session, envelope, address, options):
        if self.rcpt is not None:
            return self.rcpt
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server, session, envelope):
        if self.data is not None:
            return self.data
        tell({
            "peer": session.peer[0], "hello": session.host_name,
            "from": envelope.mail_from or "", "to": envelope.rcpt_tos, "mail_options": envelope.mail_options,
            "tls": session.ssl is not None,
            "subject": subject(envelope.original_content), "data": base64.b64encode(envelope.original_content).decode(),
        })
        return "250 2.0.0 taken"


def subject(mail):
    for line in mail.split(b"\r\n\r\n", 1)[0].split(b"\r\n"):
        if line.lower().startswith(b"subject:"):
            return line[8:].strip().decode(errors="replace")
    return None


def tell(what):
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def main():
    sink, loop = Sink(), asyncio.get_running_loop()

    context = None
    if len(sys.argv) > 2:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(sys.argv[2], sys.argv[3])

    def session():
        # Limits out of the way: what is tested is the relay, not this.
        return RequireTls(sink, hostname="sink.invalid", enable_SMTPUTF8=True, data_size_limit=64 << 20, timeout=600, tls_context=context)

    server = await loop.create_server(session, "127.0.0.1", int(sys.argv[1]), reuse_address=True, backlog=512)
    tell({"listening": server.sockets[0].getsockname()[1]})

    def steer():
        line = sys.stdin.readline()
        if not line:
            loop.stop()
            return
        for name, answer in json.loads(line).items():
            setattr(sink, name, answer)
        tell({"steered": True})

    loop.add_reader(sys.stdin, steer)
    await asyncio.Event().wait()


try:
    asyncio.run(main())
except RuntimeError:
    pass  # Standard input was closed: the test is over.
