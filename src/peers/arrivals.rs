//! The list of mails that arrived at the sink, on file: one a line, the time of our yes in microseconds of Unix time and the
//! Message-ID without its angle brackets (`-` without one).
//!
//! With the list that the load generator keeps of what was accepted, and when, it tells how long each mail took.
//!
//! **Promises.** Costs a look through the header section and a line in a buffer; the list is whole after
//! [`ArrivalList::flush`]. **Fails how.** A list that cannot be written is given up with a warning; the sink goes on.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use parking_lot::Mutex;

use crate::clock::Timestamp;
use crate::mail::header;
use crate::model::MailData;

/// The list, shared by all connections.
#[derive(Debug)]
pub struct ArrivalList(Mutex<Option<BufWriter<File>>>);

impl ArrivalList {
    /// Begins a list in this file, which is made or emptied.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(Mutex::new(Some(BufWriter::with_capacity(64 * 1024, File::create(path)?)))))
    }

    /// Adds a mail that is answered yes now.
    pub fn add(&self, data: &MailData, now: Timestamp) {
        let field = header::fields(data.bytes()).find(|field| field.is("Message-ID"));
        let id = field.map(|field| String::from_utf8_lossy(&field.value()).into_owned());
        let id = id.as_deref().map_or("-", |id| id.trim_matches(['<', '>']));
        self.write(|file| writeln!(file, "{} {id}", now.micros()));
    }

    /// Writes out what is still in memory.
    pub fn flush(&self) {
        self.write(BufWriter::flush);
    }

    fn write(&self, what: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) {
        let mut file = self.0.lock();
        if let Some(Err(e)) = file.as_mut().map(what) {
            tracing::warn!(error = %e, "the list of arrivals cannot be written and ends here");
            *file = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mail_is_a_line_with_time_and_id() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let list = ArrivalList::create(file.path()).unwrap();
        let mail = |bytes: &'static [u8]| MailData::new(bytes.into()).unwrap();
        list.add(&mail(b"From: <a@b.example>\r\nmessage-id: <7.run@b.example>\r\n\r\nx\r\n"), Timestamp(12));
        list.add(&mail(b"From: <a@b.example>\r\n\r\nMessage-ID: <no@body>\r\n"), Timestamp(13));
        list.flush();
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "12 7.run@b.example\n13 -\n");
    }
}
