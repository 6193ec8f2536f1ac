//! A plain SMTP client that does as it is told, also what is wrong.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;

use super::SOON;

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects and reads the greeting.
    pub fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream: BufReader::new(stream) };
        let greeting = client.reply()?;
        if greeting.starts_with("220") { Ok(client) } else { Err(io::Error::other(greeting)) }
    }

    /// Connects and says EHLO.
    pub fn greeted(address: &str) -> io::Result<Self> {
        let mut client = Self::connect(address)?;
        let reply = client.say("EHLO client.example")?;
        if reply.starts_with("250") { Ok(client) } else { Err(io::Error::other(reply)) }
    }

    /// Sends a command; the whole reply, lines joined by LF.
    pub fn say(&mut self, command: &str) -> io::Result<String> {
        self.send(format!("{command}\r\n").as_bytes())?;
        self.reply()
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Reads one reply.
    pub fn reply(&mut self) -> io::Result<String> {
        let mut reply = String::new();
        loop {
            let start = reply.len();
            if self.stream.read_line(&mut reply)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if reply.as_bytes().get(start + 3) != Some(&b'-') {
                reply.truncate(reply.trim_end().len());
                return Ok(reply.replace("\r\n", "\n"));
            }
        }
    }

    /// One whole mail transaction; `content` must be ready for the wire but for the final dot. The reply that ended it.
    pub fn mail(&mut self, from: &str, to: &[&str], content: &[u8]) -> io::Result<String> {
        let mut commands = vec![format!("MAIL FROM:<{from}>")];
        commands.extend(to.iter().map(|to| format!("RCPT TO:<{to}>")));
        commands.push("DATA".to_owned());
        for command in commands {
            let reply = self.say(&command)?;
            if !reply.starts_with(['2', '3']) {
                return Ok(reply);
            }
        }
        self.send(content)?;
        self.send(b".\r\n")?;
        self.reply()
    }
}

/// With a dot in front of every line that begins with one (RFC 5321 section 4.5.2).
pub fn stuffed(mail: &[u8]) -> Vec<u8> {
    let lines = mail.split_inclusive(|byte| *byte == b'\n');
    let mut stuffed = Vec::with_capacity(mail.len() + 2);
    for line in lines {
        stuffed.extend_from_slice(if line.starts_with(b".") { b"." } else { b"" });
        stuffed.extend_from_slice(line);
    }
    stuffed
}
