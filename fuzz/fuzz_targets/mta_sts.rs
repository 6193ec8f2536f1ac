//! Whatever a domain serves as its MTA-STS policy or record: hosts that are read read again from their own text, and an id is
//! short and made of letters and digits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postrider::egress::email::{HostPattern, parsed_mta_sts};

fuzz_target!(|text: &str| {
    let (id, hosts) = parsed_mta_sts(text);
    if let Some(id) = id {
        assert!((1..=32).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
    for host in hosts.into_iter().flatten() {
        assert!(host.as_str().is_ascii());
        assert_eq!(HostPattern::parse(host.as_str()).as_ref(), Some(&host));
        assert!(!host.matches(""));
    }
});
