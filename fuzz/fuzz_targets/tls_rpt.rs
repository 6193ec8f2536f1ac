//! Whatever a domain publishes at `_smtp._tls`: destinations are few, shown in printable ASCII on one line, and those by HTTPS
//! read again from their own text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postrider::egress::email::{Destination, parsed_tls_rpt};

fuzz_target!(|text: &str| {
    let destinations = parsed_tls_rpt(text).unwrap_or_default();
    assert!(destinations.len() <= 4);
    for destination in destinations {
        let shown = destination.to_string();
        assert!(shown.is_ascii() && !shown.contains(char::is_control));
        if let Destination::Https(_) = destination {
            assert_eq!(parsed_tls_rpt(&format!("v=TLSRPTv1; rua={shown}")), Some(vec![destination]));
        }
    }
});
