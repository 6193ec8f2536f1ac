//! One SMTP connection that carries many mails.
//!
//! **Promises.** MAIL, RCPT and DATA go out in one write where the server offers PIPELINING (RFC 2920), else one by one. No
//! RSET between mails (RFC 5321 section 3.3 needs none after a completed one); only a refused transaction is reset. A mail
//! counts as accepted if every recipient was, and end-of-data was answered 2xx.
//!
//! **Does not know** how many mails there are, or when to stop.

use std::fmt::Write as _;
use std::io::IoSlice;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Buf;

use super::content::Content;
use super::stream::Stream;
use super::{Options, SmtpOptions, SmtpTls, Trouble, Verdict};
use crate::clock::SharedClock;

/// A connection past EHLO and, if asked for, TLS and AUTH.
#[derive(Debug)]
pub(super) struct Session {
    stream: Stream,
    pipelining: bool,
    content: Content,
    clock: SharedClock,
    mail_from: String,
    commands: String,
    header: String,
}

impl Session {
    pub(super) async fn open(
        options: &Options,
        smtp: &SmtpOptions,
        tls: &Arc<rustls::ClientConfig>,
        content: Content,
        clock: SharedClock,
    ) -> Result<Self, Trouble> {
        let mut stream = Stream::connect(&options.address, options.reply_timeout).await?;
        if smtp.tls == SmtpTls::Implicit {
            stream = stream.secured(&options.address, tls.clone()).await?;
        }
        expect(&mut stream, 220, "greeting").await?;
        let mut capabilities = hello(&mut stream).await?;
        if smtp.tls == SmtpTls::StartTls {
            stream.write(b"STARTTLS\r\n").await?;
            expect(&mut stream, 220, "STARTTLS").await?;
            stream = stream.secured(&options.address, tls.clone()).await?;
            capabilities = hello(&mut stream).await?;
        }
        if let Some((user, password)) = &smtp.auth {
            let token = STANDARD.encode(format!("\0{user}\0{}", password.expose()));
            stream.write(format!("AUTH PLAIN {token}\r\n").as_bytes()).await?;
            expect(&mut stream, 235, "AUTH").await?;
        }
        let pipelining = capabilities.lines().any(|l| l.eq_ignore_ascii_case("PIPELINING"));
        let mail_from = format!("MAIL FROM:<{}>\r\n", options.sender);
        Ok(Self { stream, pipelining, content, clock, mail_from, commands: String::new(), header: String::new() })
    }

    /// Submits one mail.
    pub(super) async fn submit(&mut self, sequence: u64) -> Result<Verdict, Trouble> {
        match self.envelope(sequence).await? {
            Some(refused) => {
                if refused.code != 421 {
                    self.stream.write(b"RSET\r\n").await?;
                    reply(&mut self.stream).await?;
                }
                Ok(Verdict::Refused { code: refused.code, text: refused.text })
            }
            None => self.data(sequence).await,
        }
    }

    pub(super) async fn quit(mut self) {
        if self.stream.write(b"QUIT\r\n").await.is_ok() {
            let _ = reply(&mut self.stream).await;
        }
    }

    /// MAIL, RCPT and DATA; the first refusal, if any.
    async fn envelope(&mut self, sequence: u64) -> Result<Option<Reply>, Trouble> {
        self.commands.clear();
        self.commands.push_str(&self.mail_from);
        for recipient in self.content.mail_recipients(sequence) {
            let _ = write!(self.commands, "RCPT TO:<{recipient}>\r\n");
        }
        self.commands.push_str("DATA\r\n");
        if !self.pipelining {
            for command in self.commands.split_inclusive('\n') {
                self.stream.write(command.as_bytes()).await?;
                let reply = reply(&mut self.stream).await?;
                if !reply.agrees() {
                    return Ok(Some(reply));
                }
            }
            return Ok(None);
        }
        self.stream.write(self.commands.as_bytes()).await?;
        let mut refused = None;
        let mut last = None;
        for _ in self.commands.split_inclusive('\n') {
            let reply = reply(&mut self.stream).await?;
            let (agrees, gone) = (reply.agrees(), reply.code == 421);
            last = Some(reply.code);
            if !agrees {
                refused.get_or_insert(reply);
            }
            if gone {
                return Ok(refused);
            }
        }
        if refused.is_some() && last == Some(354) {
            // The server waits for data although we do not want to send any: an empty message ends the transaction
            // (RFC 2920 section 3.1). Were it taken, nobody would be told of the recipient that was refused.
            self.stream.write(b".\r\n").await?;
            reply(&mut self.stream).await?;
        }
        Ok(refused)
    }

    async fn data(&mut self, sequence: u64) -> Result<Verdict, Trouble> {
        let body = self.content.mail(sequence, &mut self.header);
        let mut slices = [IoSlice::new(self.header.as_bytes()), IoSlice::new(body), IoSlice::new(b".\r\n")];
        let in_doubt = |mut trouble: Trouble| {
            trouble.in_doubt = true;
            trouble
        };
        self.stream.write_all(&mut slices).await.map_err(in_doubt)?;
        let asked = self.clock.mono();
        let reply = reply(&mut self.stream).await.map_err(in_doubt)?;
        let latency = self.clock.mono().since(asked);
        Ok(if reply.code / 100 == 2 {
            Verdict::Accepted { latency, text: reply.text }
        } else {
            Verdict::Refused { code: reply.code, text: reply.text }
        })
    }
}

/// A whole reply; the lines' texts are joined by LF.
#[derive(Debug, PartialEq, Eq)]
struct Reply {
    code: u16,
    text: String,
}

impl Reply {
    /// Positive completion, or intermediate.
    fn agrees(&self) -> bool {
        matches!(self.code / 100, 2 | 3)
    }
}

/// Says EHLO; the capabilities, one a line.
async fn hello(stream: &mut Stream) -> Result<String, Trouble> {
    stream.write(b"EHLO load.postrider.invalid\r\n").await?;
    expect(stream, 250, "EHLO").await
}

async fn expect(stream: &mut Stream, code: u16, stage: &str) -> Result<String, Trouble> {
    let reply = reply(stream).await?;
    if reply.code != code {
        return Err(Trouble::new("refused", format!("{stage}: {} {}", reply.code, reply.text)));
    }
    Ok(reply.text)
}

async fn reply(stream: &mut Stream) -> Result<Reply, Trouble> {
    loop {
        match parse(&stream.buffer) {
            Ok(Some((reply, used))) => {
                stream.buffer.advance(used);
                return Ok(reply);
            }
            Ok(None) => stream.read().await?,
            Err(line) => return Err(Trouble::new("protocol", format!("not a reply: {line:?}"))),
        }
    }
}

/// A whole reply at the start of `bytes` and its length; `None` if it is not complete; the first line that is none.
fn parse(bytes: &[u8]) -> Result<Option<(Reply, usize)>, String> {
    let (mut from, mut text) = (0, String::new());
    while let Some(length) = memchr::memchr(b'\n', &bytes[from..]) {
        let line = &bytes[from..from + length];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let faulty = || String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
        let code = match line {
            [a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', b' ' | b'-', ..]
            | [a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
                u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0')
            }
            _ => return Err(faulty()),
        };
        text.push_str(&String::from_utf8_lossy(line.get(4..).unwrap_or_default()));
        from += length + 1;
        if line.get(3) != Some(&b'-') {
            return Ok(Some((Reply { code, text }, from)));
        }
        text.push('\n');
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn replies_are_read_whole_and_no_further() {
        let bytes = b"250-relay.example\r\n250-PIPELINING\r\n250 SIZE\r\n354 go";
        let (reply, used) = parse(bytes).unwrap().unwrap();
        assert_eq!(reply, Reply { code: 250, text: "relay.example\nPIPELINING\nSIZE".to_owned() });
        assert_eq!(&bytes[used..], b"354 go");
        assert_eq!(parse(&bytes[used..]), Ok(None));
        assert_eq!(parse(b"220\r\n").unwrap().unwrap().0.code, 220);
        for bad in [&b"hello\r\n"[..], b"25\r\n", b"650 x\r\n", b"250x\r\n", b"\r\n", b"250-a\r\nb\r\n"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_reply_is_the_same_however_it_is_split(cut in 0usize..50) {
            let bytes = b"250-relay.example\r\n250-PIPELINING\r\n250 SIZE\r\n";
            let cut = cut.min(bytes.len() - 1);
            prop_assert_eq!(parse(&bytes[..cut]), Ok(None));
        }
    }
}
