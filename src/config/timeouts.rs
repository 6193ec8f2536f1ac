//! `[delivery]`: how long to wait for a mail host, step by step (RFC 5321 section 4.5.3.2).
//!
//! A key that is not there follows the shorter of its own default and the two wide ones: `command_timeout` for what answers
//! a command, `data_timeout` for what has to do with content. So who is impatient says it once.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::quantity;
use super::reader::Section;

/// The steps of a conversation with a mail host; connecting and the end of data stand in `Delivery` itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeliveryTimeouts {
    /// The greeting (section 4.5.3.2.1: 5 minutes).
    pub greeting: Duration,
    /// The TLS handshake.
    pub tls: Duration,
    /// The reply to MAIL (section 4.5.3.2.2: 5 minutes).
    pub mail: Duration,
    /// The reply to RCPT (section 4.5.3.2.3: 5 minutes).
    pub recipient: Duration,
    /// The reply to DATA (section 4.5.3.2.4: 2 minutes).
    pub data_command: Duration,
    /// Each write of content (section 4.5.3.2.5: 3 minutes).
    pub block: Duration,
    /// The reply to QUIT.
    pub quit: Duration,
    /// All that comes before the first mail, over all hosts that are tried.
    pub opening: Duration,
}

/// Reads them; `command` and `data` are the wide ones.
pub(super) fn timeouts(section: &mut Section<'_>, command: Duration, data: Duration) -> DeliveryTimeouts {
    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);
    const RANGE: RangeInclusive<Duration> = SECOND..=Duration::from_secs(3_600);
    let mut of = |key, default: Duration| section.or(key, default, quantity::span(RANGE));
    DeliveryTimeouts {
        greeting: of("greeting_timeout", command),
        tls: of("tls_timeout", command.min(MINUTE)),
        mail: of("mail_timeout", command),
        recipient: of("rcpt_timeout", command),
        data_command: of("data_command_timeout", command.min(2 * MINUTE)),
        block: of("block_timeout", data.min(3 * MINUTE)),
        quit: of("quit_timeout", command.min(5 * SECOND)),
        opening: of("opening_timeout", 15 * MINUTE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Delivery;
    use crate::config::tests::{GOOD, good};

    fn delivery(keys: &str) -> Delivery {
        good(&format!("{GOOD}[delivery]\n{keys}\n")).0.delivery
    }

    #[test]
    fn the_defaults_are_rfc_5321s() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        let delivery = delivery("");
        let DeliveryTimeouts { greeting, mail, recipient, data_command, block, .. } = delivery.timeouts;
        assert_eq!([greeting, mail, recipient, delivery.command_timeout], [minutes(5); 4]);
        assert_eq!((data_command, block, delivery.data_timeout), (minutes(2), minutes(3), minutes(10)));
    }

    #[test]
    fn who_is_impatient_says_it_once_and_who_is_not_can_say_it_of_each() {
        let seconds = Duration::from_secs;
        let short = delivery("command_timeout = \"3s\"\ndata_timeout = \"4s\"").timeouts;
        let DeliveryTimeouts { greeting, tls, mail, recipient, data_command, block, quit, opening } = short;
        assert_eq!([greeting, tls, mail, recipient, data_command, quit], [seconds(3); 6]);
        assert_eq!((block, opening), (seconds(4), seconds(900)));
        let of_each = "greeting_timeout = \"1s\"\ntls_timeout = \"2s\"\nmail_timeout = \"3s\"\nrcpt_timeout = \"4s\"\n\
             data_command_timeout = \"5s\"\nblock_timeout = \"6s\"\nquit_timeout = \"7s\"\nopening_timeout = \"8s\"";
        let DeliveryTimeouts { greeting, tls, mail, recipient, data_command, block, quit, opening } =
            delivery(of_each).timeouts;
        let all = [greeting, tls, mail, recipient, data_command, block, quit, opening];
        assert_eq!(all, [1, 2, 3, 4, 5, 6, 7, 8].map(seconds));
    }
}
