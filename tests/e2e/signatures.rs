//! Two hundred mails of the shapes that applications send: each arrives as it was, and each of its signatures alone is right by
//! three verifiers that others wrote.
//!
//! The shapes follow from a seed, so that every run sends the same mails: folded, encoded and empty fields, names of fields in
//! any case, missing Date and Message-ID, multipart with attachments, base64 and quoted-printable, UTF-8 and Latin-1, lines of
//! 998 octets, white space at line ends, leading dots, empty lines at the end, and no body at all.

use fastrand::Rng;

use crate::support::peer::{MailSink, judge_all};
use crate::support::relay::{Relay, SENDER_DOMAIN, SINK_DOMAIN, Settings};
use crate::support::smtp::{Client, stuffed};
use crate::support::{PATIENCE, split_mail};

const MAILS: usize = 200;

const WORDS: [&str; 12] =
    ["order", "parcel", "code", "您的", "Ihre", "été", "2026", "=", "invoice", "a.b", "(sic)", "\"quoted\""];

fn words(random: &mut Rng, ascii: bool, most: usize) -> String {
    let count = random.usize(1..=most);
    let pick = |random: &mut Rng| loop {
        let word = WORDS[random.usize(..WORDS.len())];
        if !ascii || word.is_ascii() {
            return word;
        }
    };
    (0..count).map(|_| pick(random)).collect::<Vec<_>>().join([" ", "  ", " \t"][random.usize(..3)])
}

/// A field's value over several lines.
fn folded(random: &mut Rng, most: usize) -> String {
    let lines: Vec<String> = (0..random.usize(1..=most)).map(|_| words(random, true, 6)).collect();
    lines.join(["\r\n ", "\r\n\t", "\r\n   "][random.usize(..3)])
}

fn encoded_word(random: &mut Rng) -> String {
    ["=?utf-8?B?5oKo55qE6aqM6K+B56CB?=", "=?UTF-8?Q?Ihre_Bestellung_=C3=BC?=", "=?gb2312?B?xPq1xNHp1qTC6w==?="]
        [random.usize(..3)]
    .to_owned()
}

fn header(n: usize, random: &mut Rng, content_type: &str, encoding: &str) -> String {
    let case = |random: &mut Rng, name: &str| match random.u8(..4) {
        0 => name.to_lowercase(),
        1 => name.to_uppercase(),
        _ => name.to_owned(),
    };
    let from = ["Shop <hello@{}>", "hello@{}", "\"Shop, the\" <hello@{}>", "=?utf-8?B?5ZWG5bqX?= <hello@{}>"];
    let mut fields = vec![
        (case(random, "From"), from[random.usize(..4)].replace("{}", SENDER_DOMAIN)),
        ("To".to_owned(), format!("n{n}@{SINK_DOMAIN}")),
        (case(random, "Subject"), if random.bool() { folded(random, 3) } else { encoded_word(random) }),
        (case(random, "MIME-Version"), "1.0".to_owned()),
        (case(random, "Content-Type"), content_type.to_owned()),
        ("Content-Transfer-Encoding".to_owned(), encoding.to_owned()),
    ];
    if random.u8(..3) > 0 {
        fields.push(("Date".to_owned(), "Thu, 26 Nov 2026 10:00:00 +0800 (CST)".to_owned()));
    }
    if random.u8(..3) > 0 {
        fields.push((case(random, "Message-ID"), format!("<{n}.{}@{SENDER_DOMAIN}>", random.u32(..))));
    }
    for _ in 0..random.usize(..4) {
        let name = ["X-Order", "Comments", "Keywords", "Received", "X-Empty"][random.usize(..5)];
        let value = match name {
            "X-Empty" => String::new(),
            "Received" => "from app (localhost [127.0.0.1])\r\n\tby worker; Thu, 26 Nov 2026 10:00:00 +0800".to_owned(),
            _ => folded(random, 4),
        };
        fields.push((name.to_owned(), value));
    }
    if random.bool() {
        let links = format!("<https://{SENDER_DOMAIN}/u/{n}>,\r\n <mailto:leave@{SENDER_DOMAIN}?subject=leave>");
        fields.push(("List-Unsubscribe".to_owned(), links));
        fields.push(("List-Unsubscribe-Post".to_owned(), "List-Unsubscribe=One-Click".to_owned()));
        fields.push(("Feedback-ID".to_owned(), format!("c{n}:shop:orders:postrider")));
    }
    random.shuffle(&mut fields);
    let gap = [": ", ":", ":  ", ":\t"];
    let end = ["", " ", "\t"];
    fields
        .into_iter()
        .map(|(name, value)| format!("{name}{}{value}{}\r\n", gap[random.usize(..4)], end[random.usize(..3)]))
        .collect()
}

/// Lines of any sort, eight-bit ones only if asked for.
fn lines(random: &mut Rng, ascii: bool) -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..random.usize(..30) {
        match random.u8(..9) {
            0 => {}
            1 => body.extend([".", "..", ". ", ".hidden"][random.usize(..4)].bytes()),
            2 => body.extend([" ", "\t \t", "  x  ", "tab\tand space "][random.usize(..4)].bytes()),
            3 => body.extend(std::iter::repeat_n(b'x', random.usize(900..=998))),
            4 if !ascii => body.extend([0xe9, b' ', 0xff, 0x80]),
            _ => body.extend(words(random, ascii, 12).bytes()),
        }
        body.extend(b"\r\n");
    }
    body.extend(b"\r\n".repeat(random.usize(..4)));
    body
}

fn base64(random: &mut Rng) -> Vec<u8> {
    let bytes: Vec<u8> = (0..random.usize(1..4_000)).map(|_| random.u8(..)).collect();
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters: Vec<u8> = bytes.iter().map(|b| alphabet[usize::from(*b) % 64]).collect();
    letters.chunks(76).flat_map(|line| [line, b"\r\n"].concat()).collect()
}

fn mail(n: usize, random: &mut Rng) -> Vec<u8> {
    let (content_type, encoding, body) = match random.u8(..7) {
        0 => ("text/plain; charset=us-ascii", "7bit", lines(random, true)),
        1 => ("text/plain; charset=utf-8", "8bit", lines(random, false)),
        2 => ("text/html; charset=\"utf-8\"", "base64", base64(random)),
        3 => ("text/plain; charset=utf-8", "quoted-printable", b"caf=C3=A9 =\r\nsoft=20\r\n=2E\r\n".to_vec()),
        4 => ("text/plain", "7bit", Vec::new()),
        kind => {
            let boundary = format!("=_{}_{n}", random.u32(..));
            let mut body = b"This is a message with parts.\r\n".to_vec();
            for _ in 0..random.usize(1..4) {
                let part = if random.bool() { base64(random) } else { lines(random, true) };
                body.extend(format!("--{boundary}\r\nContent-Type: text/plain;\r\n\tname=\"a b\"\r\n\r\n").bytes());
                body.extend(part);
            }
            body.extend(format!("--{boundary}--\r\n").bytes());
            let sort = if kind == 5 { "mixed" } else { "alternative" };
            let content_type = format!("multipart/{sort};\r\n boundary=\"{boundary}\"");
            let header = header(n, random, &content_type, "7bit");
            return [header.as_bytes(), b"\r\n", &body].concat();
        }
    };
    let header = header(n, random, content_type, encoding);
    [header.as_bytes(), b"\r\n", &body].concat()
}

#[test]
fn two_hundred_mails_arrive_as_they_were_with_signatures_that_all_verifiers_accept() {
    let sink = MailSink::start(0);
    let relay = Relay::start(&Settings { smtp_port: sink.0.port, ..Settings::default() });
    let mut random = Rng::with_seed(20_261_126);
    let mails: Vec<Vec<u8>> = (0..MAILS).map(|n| mail(n, &mut random)).collect();
    let from = format!("hello@{SENDER_DOMAIN}");
    let mut client = Client::greeted(&relay.listeners.smtp[2]).unwrap();
    for (n, mail) in mails.iter().enumerate() {
        let reply = client.mail(&from, &[&format!("n{n}@{SINK_DOMAIN}")], &stuffed(mail)).unwrap();
        assert!(reply.starts_with("250"), "{n}: {reply}\n{}", String::from_utf8_lossy(mail));
    }
    let arrived: Vec<_> = (0..MAILS)
        .map(|n| sink.wait_for(&format!("mail {n}"), PATIENCE, |m| m.to == [format!("n{n}@{SINK_DOMAIN}")]))
        .collect();
    for (n, (mail, arrived)) in mails.iter().zip(&arrived).enumerate() {
        let ((sent_header, sent), (header, got)) = (split_mail(mail), split_mail(&arrived.data));
        assert_eq!(String::from_utf8_lossy(got), String::from_utf8_lossy(sent), "{n}");
        assert_eq!(got, sent, "{n}: the body is what it was");
        assert!(
            header.ends_with(sent_header),
            "{n}: the fields are what they were:\n{}",
            String::from_utf8_lossy(header)
        );
    }
    let contents: Vec<&[u8]> = arrived.iter().map(|mail| mail.data.as_slice()).collect();
    let verdicts = judge_all(relay.dir(), &relay.dkim_zone, &contents);
    let mut by_perl = 0;
    for (n, signatures) in verdicts.iter().enumerate() {
        assert_eq!(signatures.len(), 2, "{n}: RSA and Ed25519");
        for signature in signatures {
            let shown = String::from_utf8_lossy(contents[n]);
            assert!(signature.is_right(), "{n}: {signature:?}\n{shown}");
            by_perl += usize::from(signature.mail_dkim == Some(true));
        }
    }
    assert_eq!((verdicts.len(), by_perl), (MAILS, MAILS));
}
