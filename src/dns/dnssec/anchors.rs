//! The keys that DNSSEC validation starts from.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use hickory_resolver::proto::dnssec::TrustAnchors;

/// Trusted keys: the root's, and those of zones that nobody else vouches for.
#[derive(Clone)]
pub struct Anchors {
    /// What they were read from; `None`: those that are compiled in.
    text: Option<Arc<str>>,
    keys: Arc<TrustAnchors>,
}

impl Anchors {
    /// Reads DNSKEY records as in a zone file, one a line: `. 86400 IN DNSKEY 257 3 8 AwEAAa…`, comments behind `;`. One of them
    /// has to be the root's: without it, all the world would look forged.
    ///
    /// # Errors
    /// What is wrong, in words for an operator.
    pub fn parse(text: &str) -> Result<Self, String> {
        let keys = TrustAnchors::from_str(text).map_err(|e| e.to_string())?;
        if keys.is_empty() {
            return Err("no DNSKEY record of the root, whose name is \".\"".to_owned());
        }
        Ok(Self { text: Some(text.into()), keys: Arc::new(keys) })
    }

    pub(in crate::dns) fn keys(&self) -> Arc<TrustAnchors> {
        self.keys.clone()
    }
}

/// The root's keys of 2017 and 2024 (KSK tags 20326 and 38696).
impl Default for Anchors {
    fn default() -> Self {
        Self { text: None, keys: Arc::new(TrustAnchors::default()) }
    }
}

impl PartialEq for Anchors {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Anchors {}

impl fmt::Debug for Anchors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text.as_deref().unwrap_or("the root's"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str =
        "257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==";

    #[test]
    fn the_root_has_to_be_among_them() {
        let parsed = |text: &str| Anchors::parse(text).map(|anchors| anchors.keys.len());
        assert_eq!(parsed(&format!(". IN DNSKEY {KEY}\n")), Ok(1));
        assert_eq!(parsed(&format!("; the root's\n. 86400 IN DNSKEY {KEY} ;{{id = 1}}\ncorp. IN DNSKEY {KEY}")), Ok(1));
        for (text, said) in [
            ("", "no DNSKEY record of the root"),
            ("; nothing\n", "no DNSKEY record of the root"),
            (&format!("corp. IN DNSKEY {KEY}\n"), "no DNSKEY record of the root"),
            (". IN DS 20326 8 2 E06D44B8\n", "DS"),
            ("-----BEGIN CERTIFICATE-----\n", ""),
        ] {
            let wrong = parsed(text).unwrap_err();
            assert!(wrong.contains(said), "{text}: {wrong}");
        }
        assert_eq!(Anchors::default().keys.len(), 2);
        assert_ne!(Anchors::parse(&format!(". IN DNSKEY {KEY}")).unwrap(), Anchors::default());
    }

    proptest! {
        #[test]
        fn no_file_panics(
            text in "\\PC{0,80}|([a-z.]{0,6} (IN |60 |)(DNSKEY|DS|)[ ()\";0-9]{0,12}[A-Za-z0-9+/=]{0,20}[\n;( )\"\\\\]{0,3}){0,4}"
        ) {
            let _ = Anchors::parse(&text);
        }
    }
}
