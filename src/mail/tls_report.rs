//! The mail that carries a TLS report (RFC 8460 section 5.3): a multipart/report of type `tlsrpt`.
//!
//! **Promises.** Every field is printable ASCII and bounded, whatever the configuration holds; the body is 7bit. The mail says
//! `TLS-Required: No` (RFC 8689 section 5): a report on broken TLS must get through where TLS is broken (RFC 8460 section 3).
//!
//! **Does not know** what the report says, nor how it is compressed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::dkim::BodyHash;
use crate::clock::Timestamp;
use crate::model::{BodyKind, DataFault, MailData, MailOrigin, Mailbox, MessageId, ReversePath, TlsWish};

/// Octets of a line of base64.
const LINE_BYTES: usize = 76;

/// What the mail is made of.
#[derive(Clone, Copy, Debug)]
pub struct TlsReportMail<'a> {
    /// Its author, and whom its bounces reach.
    pub from: &'a Mailbox,
    /// Who takes it.
    pub to: &'a Mailbox,
    /// The organization that reports.
    pub organization: &'a str,
    /// The policy domain that it is about.
    pub domain: &'a str,
    /// The report's id, `left@right`.
    pub report_id: &'a str,
    /// The name of the report's file.
    pub file_name: &'a str,
    /// When the report begins and ends.
    pub covers: (Timestamp, Timestamp),
    /// The report, compressed.
    pub gzipped: &'a [u8],
    /// The mail's own id.
    pub id: MessageId,
    /// Now.
    pub now: Timestamp,
}

/// Writes the mail: its content, and its sender's side.
///
/// # Errors
/// [`DataFault`] if there were something in it that no mail may hold; nothing that comes in here leads to it.
pub fn tls_report(mail: &TlsReportMail<'_>) -> Result<(MailData, MailOrigin), DataFault> {
    let boundary = format!("=_report_{}", mail.id);
    let mut out = header(mail, &boundary);
    let header_bytes = out.len();
    push_parts(mail, &boundary, &mut out);
    let origin = MailOrigin {
        reverse_path: ReversePath::Mailbox(mail.from.clone()),
        body: BodyKind::SevenBit,
        smtputf8: false,
        ret: None,
        envid: None,
        tls: TlsWish::NotRequired,
        body_hash: BodyHash::of(&out.as_bytes()[header_bytes..]),
        // A few hundred octets.
        header_bytes: u32::try_from(header_bytes).unwrap_or(u32::MAX),
    };
    Ok((MailData::new(Bytes::from(out))?, origin))
}

fn header(mail: &TlsReportMail<'_>, boundary: &str) -> String {
    let TlsReportMail { from, to, domain, report_id, id, .. } = mail;
    let submitter = from.domain();
    let organization = quoted(mail.organization);
    // The subject's lines break where its grammar lets them (section 5.3): each piece may be as long as a domain.
    format!(
        "From: {organization} <{from}>\r\n\
         To: <{to}>\r\n\
         Subject: Report Domain: {domain}\r\n\
         \tSubmitter: {submitter}\r\n\
         \tReport-ID: <{report_id}>\r\n\
         Date: {date}\r\n\
         Message-ID: <{id}@{submitter}>\r\n\
         TLS-Report-Domain: {domain}\r\n\
         TLS-Report-Submitter: {submitter}\r\n\
         TLS-Required: No\r\n\
         Auto-Submitted: auto-generated\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n\
         \tboundary=\"{boundary}\"\r\n\r\n",
        date = mail.now.rfc5322(),
    )
}

fn push_parts(mail: &TlsReportMail<'_>, boundary: &str, out: &mut String) {
    let (start, end) = mail.covers;
    let (domain, file_name) = (mail.domain, mail.file_name);
    out.push_str(&format!(
        "--{boundary}\r\nContent-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n\r\n\
         This is an aggregate report (RFC 8460) on TLS with the mail hosts of\r\n{domain},\r\n\
         from {start}\r\nto   {end}.\r\nThe report itself is attached.\r\n\r\n\
         --{boundary}\r\nContent-Type: application/tlsrpt+gzip\r\nContent-Transfer-Encoding: base64\r\n\
         Content-Disposition: attachment;\r\n\tfilename=\"{file_name}\"\r\n\r\n",
        start = start.rfc5322(),
        end = end.rfc5322(),
    ));
    let encoded = STANDARD.encode(mail.gzipped);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE_BYTES));
        out.push_str(line);
        out.push_str("\r\n");
        rest = after;
    }
    out.push_str(&format!("--{boundary}--\r\n"));
}

/// A display name: a quoted string, of what a header field may hold as it is.
fn quoted(name: &str) -> String {
    let printable = name.chars().filter(|c| (' '..='~').contains(c)).take(128);
    let escaped = printable.flat_map(|c| if matches!(c, '"' | '\\') { vec!['\\', c] } else { vec![c] });
    format!("\"{}\"", escaped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use mail_parser::{MessageParser, MimeHeaders};

    use super::*;

    #[test]
    fn a_reader_finds_what_the_rfc_asks_for() {
        let (from, to) = (Mailbox::parse("tls@shop.example").unwrap(), Mailbox::parse("rpt@x.example").unwrap());
        let gzipped: Vec<u8> = (0..=255).collect();
        let mail = TlsReportMail {
            from: &from,
            to: &to,
            organization: "The \"Shop\"\r\nBcc: x@y.example",
            domain: "x.example",
            report_id: "0-86400.x.example@shop.example",
            file_name: "shop.example!x.example!0!86399.json.gz",
            covers: (Timestamp(0), Timestamp::from_seconds(86_399)),
            gzipped: &gzipped,
            id: MessageId::new(Timestamp(7)),
            now: Timestamp::from_seconds(100_000),
        };
        let (data, origin) = tls_report(&mail).unwrap();
        assert!(data.bytes().is_ascii());
        assert!(data.bytes().split(|b| *b == b'\n').all(|line| line.len() < 200));
        let header = std::str::from_utf8(&data.bytes()[..origin.header_bytes as usize]).unwrap();
        for line in ["TLS-Report-Domain: x.example", "TLS-Report-Submitter: shop.example", "TLS-Required: No"] {
            assert!(header.lines().any(|l| l == line), "{line}: {header}");
        }
        assert!(header.starts_with("From: \"The \\\"Shop\\\"Bcc: x@y.example\" <tls@shop.example>\r\n"), "{header}");
        let read = MessageParser::new().parse(&data.bytes()[..]).unwrap();
        assert_eq!(
            read.subject(),
            Some("Report Domain: x.example Submitter: shop.example Report-ID: <0-86400.x.example@shop.example>")
        );
        let kind = read.content_type().unwrap();
        assert_eq!((kind.ctype(), kind.subtype()), ("multipart", Some("report")));
        assert_eq!(kind.attribute("report-type"), Some("tlsrpt"));
        let part = read.attachment(0).unwrap();
        assert_eq!(part.content_type().unwrap().subtype(), Some("tlsrpt+gzip"));
        assert_eq!(part.attachment_name(), Some("shop.example!x.example!0!86399.json.gz"));
        assert_eq!(part.contents(), gzipped);
    }
}
