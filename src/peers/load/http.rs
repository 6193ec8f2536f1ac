//! One HTTP/1.1 connection that posts many messages.
//!
//! **Promises.** Requests follow each other on one connection while the server keeps it open; only answers with a
//! Content-Length are understood, which is what the relay sends. 202 is a yes, everything else a refusal.
//!
//! **Does not know** how many messages there are, or when to stop.

use std::fmt::Write as _;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::Buf;

use super::content::Content;
use super::stream::Stream;
use super::{HttpOptions, Options, Post, Trouble, Verdict};
use crate::clock::SharedClock;
use crate::limits;

/// An open connection.
#[derive(Debug)]
pub(super) struct Session {
    stream: Stream,
    content: Content,
    clock: SharedClock,
    post: Post,
    /// Request line and the fields that do not change.
    head: String,
    request: String,
    body: String,
}

impl Session {
    pub(super) async fn open(
        options: &Options,
        http: &HttpOptions,
        tls: &Arc<rustls::ClientConfig>,
        content: Content,
        clock: SharedClock,
    ) -> Result<Self, Trouble> {
        let mut stream = Stream::connect(&options.address, options.reply_timeout).await?;
        if http.tls {
            stream = stream.secured(&options.address, tls.clone()).await?;
        }
        let path = match http.post {
            Post::Text => "/v1/sms",
            Post::Mail => "/v1/email",
        };
        let mut head =
            format!("POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n", options.address);
        if let Some(key) = &http.api_key {
            let _ = write!(head, "Authorization: Bearer {}\r\n", key.expose());
        }
        let (request, body) = (String::new(), String::new());
        Ok(Self { stream, content, clock, post: http.post, head, request, body })
    }

    /// Posts one message; the flag says whether the connection can carry another.
    pub(super) async fn submit(&mut self, sequence: u64) -> Result<(Verdict, bool), Trouble> {
        match self.post {
            Post::Text => self.content.text_json(sequence, &mut self.body),
            Post::Mail => self.content.mail_json(sequence, &mut self.body),
        }
        self.request.clear();
        let _ = write!(self.request, "{}Content-Length: {}\r\n\r\n", self.head, self.body.len());
        let mut slices = [IoSlice::new(self.request.as_bytes()), IoSlice::new(self.body.as_bytes())];
        let in_doubt = |mut trouble: Trouble| {
            trouble.in_doubt = true;
            trouble
        };
        self.stream.write_all(&mut slices).await.map_err(in_doubt)?;
        let asked = self.clock.mono();
        let answer = self.answer().await.map_err(in_doubt)?;
        let latency = self.clock.mono().since(asked);
        let verdict = if answer.status == 202 {
            Verdict::Accepted { latency, text: answer.body }
        } else {
            Verdict::Refused { code: answer.status, text: answer.body }
        };
        Ok((verdict, answer.keep_alive))
    }

    async fn answer(&mut self) -> Result<Answer, Trouble> {
        let (head, head_bytes) = loop {
            match parse(&self.stream.buffer) {
                Ok(Some(found)) => break found,
                Ok(None) => self.stream.read().await?,
                Err(why) => return Err(Trouble::new("protocol", why)),
            }
        };
        let total = head_bytes + head.body_bytes;
        while self.stream.buffer.len() < total {
            self.stream.read().await?;
        }
        let body = String::from_utf8_lossy(&self.stream.buffer[head_bytes..total]).into_owned();
        self.stream.buffer.advance(total);
        Ok(Answer { status: head.status, keep_alive: head.keep_alive, body })
    }
}

/// A whole answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    keep_alive: bool,
    body: String,
}

/// What the head of an answer says.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    keep_alive: bool,
    body_bytes: usize,
}

/// The head at the start of `bytes` and its length; `None` if it is not complete; what is wrong with it.
fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, String> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| "head of the answer is not UTF-8".to_owned())?;
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 "))
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .ok_or("not an HTTP/1.1 answer")?;
    let (mut keep_alive, mut body_bytes) = (true, None);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("connection") && value.trim().eq_ignore_ascii_case("close") {
            keep_alive = false;
        } else if name.eq_ignore_ascii_case("content-length") {
            body_bytes = value.trim().parse().ok().filter(|&n| n <= limits::PEER_REPLY_BYTES_MAX);
        }
    }
    let body_bytes = body_bytes.ok_or("answer without a usable Content-Length")?;
    Ok(Some((Head { status, keep_alive, body_bytes }, end + 4)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn heads_are_understood() {
        let bytes = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\nConnection: close\r\n\r\n{}";
        let head = Head { status: 202, keep_alive: false, body_bytes: 2 };
        assert_eq!(parse(bytes), Ok(Some((head, bytes.len() - 2))));
        assert_eq!(parse(&bytes[..40]), Ok(None));
        assert!(parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n").is_err());
        assert!(parse(b"220 mail.example ESMTP\r\n\r\n").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes: Vec<u8>, tail in "(HTTP/1.1 [0-9]{0,3}|Content-Length: -?[0-9]{0,30}|\r\n){0,6}") {
            let _ = parse(&bytes);
            let _ = parse(tail.as_bytes());
        }
    }
}
