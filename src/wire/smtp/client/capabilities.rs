//! What a server offers in its answer to EHLO (RFC 5321 section 4.1.1.1).

use crate::model::Reply;

/// The service extensions a server offers, as far as we use them. HELO yields the default: none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Capabilities {
    /// SIZE was offered (RFC 1870).
    pub size: bool,
    /// The largest message it takes, where it states one.
    pub size_max: Option<u64>,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// REQUIRETLS (RFC 8689).
    pub require_tls: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced_status_codes: bool,
}

impl Capabilities {
    /// Reads the answer to EHLO: its first line greets, each further line offers one extension. Unknown ones are skipped.
    pub fn from_hello(reply: &Reply) -> Self {
        let mut offered = Self::default();
        for line in reply.text.split('\n').skip(1) {
            let mut words = line.split_ascii_whitespace();
            let Some(keyword) = words.next() else { continue };
            match keyword.to_ascii_uppercase().as_str() {
                "SIZE" => {
                    offered.size = true;
                    // Zero, and no number at all, mean no fixed limit (RFC 1870 section 4).
                    offered.size_max = words.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                }
                "PIPELINING" => offered.pipelining = true,
                "8BITMIME" => offered.eight_bit_mime = true,
                "STARTTLS" => offered.starttls = true,
                "SMTPUTF8" => offered.smtputf8 = true,
                "CHUNKING" => offered.chunking = true,
                "DSN" => offered.dsn = true,
                "REQUIRETLS" => offered.require_tls = true,
                "ENHANCEDSTATUSCODES" => offered.enhanced_status_codes = true,
                _ => {}
            }
        }
        offered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(text: &str) -> Capabilities {
        Capabilities::from_hello(&Reply { code: 250, enhanced: None, text: text.to_owned() })
    }

    #[test]
    fn extensions_are_read_whatever_their_case_and_order() {
        let all = hello(
            "mx.example.net\nsize 1000\nPipelining\n8BITMIME\nSTARTTLS\nSMTPUTF8\nCHUNKING\nDSN\nREQUIRETLS\nENHANCEDSTATUSCODES\nX-ODD 1",
        );
        assert_eq!(
            all,
            Capabilities {
                size: true,
                size_max: Some(1000),
                pipelining: true,
                eight_bit_mime: true,
                starttls: true,
                smtputf8: true,
                chunking: true,
                dsn: true,
                require_tls: true,
                enhanced_status_codes: true,
            }
        );
    }

    #[test]
    fn the_greeting_line_offers_nothing() {
        assert_eq!(hello("PIPELINING"), Capabilities::default());
        assert_eq!(hello("mx\n\n \nPIPELININGS"), Capabilities::default());
    }

    #[test]
    fn size_without_a_usable_number_is_no_limit() {
        for line in ["mx\nSIZE", "mx\nSIZE 0", "mx\nSIZE many", "mx\nSIZE 99999999999999999999999"] {
            assert_eq!((hello(line).size, hello(line).size_max), (true, None), "{line}");
        }
    }
}
