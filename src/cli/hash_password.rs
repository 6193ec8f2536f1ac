//! `postrider hash-password`

use std::io::{self, BufRead, IsTerminal, Read, Write};

use argon2::Argon2;
use argon2::password_hash::PasswordHasher;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde_json::json;

use super::{Failure, output};
use crate::model::Secret;

/// Hash a password for a client's `password` key (argon2id)
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  postrider hash-password\n  printf %s \"$PASSWORD\" | postrider hash-password\n\n\
                        On a terminal the password is asked for twice and not shown; otherwise the first line of standard \
                        input is taken.")]
pub(super) struct Args {
    /// Print the hash as a JSON object
    #[arg(long)]
    json: bool,
}

/// Longest password taken; SMTP AUTH lines carry no more.
const PASSWORD_BYTES_MAX: usize = 1_024;

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let password = if io::stdin().is_terminal() { ask_twice()? } else { first_line(&mut io::stdin().lock())? };
        let hash = hash(&password)?;
        if self.json {
            output::print_json(&json!({ "password": hash }))?;
        } else {
            output::print(&hash)?;
        }
        Ok(())
    }
}

/// The PHC string of a password, with argon2id and the parameters that its RFC 9106 implementation recommends.
pub(super) fn hash(password: &Secret) -> Result<String, Failure> {
    let hash = Argon2::default().hash_password(password.expose().as_bytes());
    hash.map(|h| h.to_string()).map_err(|e| Failure::failed(format!("cannot hash: {e}")))
}

fn first_line(input: &mut dyn BufRead) -> Result<Secret, Failure> {
    let mut line = String::new();
    let read = input.take(PASSWORD_BYTES_MAX as u64 + 3).read_line(&mut line);
    read.map_err(|e| Failure::failed(format!("cannot read the password: {e}")))?;
    accept(line.trim_end_matches(['\r', '\n']))
}

fn ask_twice() -> Result<Secret, Failure> {
    // One for both: what is typed early is not lost in between.
    let quiet = QuietTerminal::new()?;
    let (first, second) = (ask("Password: ")?, ask("Again: ")?);
    drop(quiet);
    if !first.matches(second.expose().as_bytes()) {
        return Err(Failure::failed("the two differ"));
    }
    Ok(first)
}

fn accept(password: &str) -> Result<Secret, Failure> {
    if password.is_empty() {
        return Err(Failure::failed("no password given"));
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(Failure::failed("the password is longer than 1024 bytes"));
    }
    Ok(Secret::new(password))
}

/// Reads a line from the quiet terminal. Keys come one by one, so that Ctrl-C can be seen here and the terminal put back
/// before we leave.
fn ask(prompt: &str) -> Result<Secret, Failure> {
    let mut terminal = io::stderr();
    write!(terminal, "{prompt}")?;
    terminal.flush()?;
    let line = read_keys(&mut io::stdin().lock());
    writeln!(terminal)?;
    accept(&line?)
}

/// One line of keys: Enter ends it, Backspace and Ctrl-U take back, Ctrl-C and Ctrl-D give up.
fn read_keys(keys: &mut dyn Read) -> Result<String, Failure> {
    let mut line: Vec<u8> = Vec::new();
    let mut key = [0];
    loop {
        let read = keys.read(&mut key)?;
        match key[0] {
            _ if read == 0 => return Err(Failure::failed("given up")),
            b'\r' | b'\n' => break,
            0x03 | 0x04 => return Err(Failure::failed("given up")),
            0x15 => line.clear(),
            0x08 | 0x7f => {
                // A whole character, however many bytes it has.
                while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            byte if line.len() <= PASSWORD_BYTES_MAX => line.push(byte),
            _ => {}
        }
    }
    String::from_utf8(line).map_err(|_| Failure::failed("the password is not UTF-8"))
}

/// A terminal that shows no keys, until this is dropped.
struct QuietTerminal(Termios);

impl QuietTerminal {
    fn new() -> Result<Self, Failure> {
        let failed = |e: rustix::io::Errno| Failure::failed(format!("cannot hide what is typed: {e}"));
        let before = tcgetattr(io::stdin()).map_err(failed)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet).map_err(failed)?;
        Ok(Self(before))
    }
}

impl Drop for QuietTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::password_hash::PasswordVerifier;
    use argon2::password_hash::phc::PasswordHash;

    #[test]
    fn the_hash_fits_the_password_and_no_other() {
        let made = hash(&Secret::new("sesame")).unwrap();
        assert!(made.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{made}");
        let parsed = PasswordHash::new(&made).unwrap();
        assert!(Argon2::default().verify_password(b"sesame", &parsed).is_ok());
        assert!(Argon2::default().verify_password(b"Sesame", &parsed).is_err());
        assert_ne!(made, hash(&Secret::new("sesame")).unwrap(), "each has its own salt");
    }

    #[test]
    fn the_first_line_is_the_password() {
        let read = |text: &str| first_line(&mut io::Cursor::new(text.to_owned())).map(|s| s.expose().to_owned());
        assert_eq!(read("se same \r\nmore").unwrap(), "se same ");
        assert_eq!(read("sesame").unwrap(), "sesame");
        assert!(read("\n").is_err());
        assert!(read(&"a".repeat(PASSWORD_BYTES_MAX)).is_ok());
        assert!(read(&"a".repeat(PASSWORD_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn keys_can_be_taken_back() {
        let line = |keys: &[u8]| read_keys(&mut io::Cursor::new(keys.to_vec()));
        assert_eq!(line(b"abc\x7f\x08d\r").unwrap(), "ad");
        assert_eq!(line("é芝\u{7f}\u{7f}a\n".as_bytes()).unwrap(), "a");
        assert_eq!(line(b"abc\x15xyz\n").unwrap(), "xyz");
        assert!(line(b"abc\x03\n").is_err());
        assert!(line(b"abc").is_err());
        assert!(line(b"\xff\n").is_err());
    }
}
