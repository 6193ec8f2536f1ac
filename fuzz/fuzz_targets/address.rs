//! Whatever is taken for a mailbox, a domain or a number reads back from its own text as the same value, holds no octet that
//! could end a line, and a mailbox is the same to RCPT; a domain's A-labels are a domain.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postrider::model::{Domain, Mailbox, Number, SenderId};
use postrider::wire::smtp::server::Command;

fuzz_target!(|text: &str| {
    if let Ok(mailbox) = Mailbox::parse(text) {
        let shown = mailbox.to_string();
        assert!(is_one_line(&shown));
        assert_eq!(Mailbox::parse(&shown).as_ref(), Ok(&mailbox));
        let line = format!("RCPT TO:<{shown}>\r\n");
        match Command::parse(line.as_bytes()) {
            Ok(Command::Rcpt(rcpt)) => assert_eq!(rcpt.mailbox, mailbox),
            other => panic!("{line:?} is {other:?}"),
        }
    }
    if let Ok(domain) = Domain::parse(text) {
        assert!(is_one_line(domain.as_str()));
        assert_eq!(Domain::parse(domain.as_str()).as_ref(), Ok(&domain));
        assert!(domain.is_within(domain.as_str()));
        if let Ok(ascii) = domain.to_ascii() {
            assert!(ascii.as_str().is_ascii());
            assert_eq!(Domain::parse(ascii.as_str()), Ok(ascii));
        }
    }
    if let Ok(number) = Number::parse(text) {
        assert!(number.digits().bytes().all(|digit| digit.is_ascii_digit()));
        assert_eq!(Number::parse(number.as_str()).as_ref(), Ok(&number));
    }
    if let Ok(sender) = SenderId::parse(text) {
        assert_eq!(SenderId::parse(&sender.to_string()).as_ref(), Ok(&sender));
    }
});

fn is_one_line(text: &str) -> bool {
    !text.contains(char::is_control)
}
