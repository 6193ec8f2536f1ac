//! Mailboxes as people write them: `lin@example.com`, `Lin <lin@example.com>`, lists and groups (RFC 5322 section 3.4).
//!
//! **Promises.** Strict: what is not understood to the last character is refused, so no recipient is guessed. A display
//! name holds no control character. Linear in the text; no recursion.
//!
//! **Does not know** folding (the caller unfolds) and encoded words (a name is passed on as it stands).

use crate::model::{AddressError, Mailbox};

/// A mailbox with the name shown for it.
pub(super) type Named = (Option<String>, Mailbox);

/// Reads exactly one mailbox.
pub(super) fn one(text: &str) -> Result<Named, String> {
    let mut all = list(text, 1)?;
    match all.pop() {
        Some(only) if !text.trim_end().ends_with([',', ';']) => Ok(only),
        _ => Err("expected one address".to_owned()),
    }
}

/// Reads a list of at most `most` mailboxes; members of groups count like others, empty places are passed over.
pub(super) fn list(text: &str, most: usize) -> Result<Vec<Named>, String> {
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err("an address may hold no line break and no other control character".to_owned());
    }
    let mut reader = Reader { rest: text, name: String::new(), spec: String::new(), angle: None };
    let mut found = Vec::new();
    let mut in_group = false;
    loop {
        let ended = reader.read_to_delimiter()?;
        if ended == Some(':') {
            if in_group || reader.angle.is_some() {
                return Err("a colon that begins no group".to_owned());
            }
            in_group = true;
            reader.clear();
            continue;
        }
        if let Some(named) = reader.finish()? {
            if found.len() == most {
                return Err(format!("more than {most} {}", if most == 1 { "address" } else { "addresses" }));
            }
            found.push(named);
        }
        match ended {
            None if in_group => return Err("a group that does not end with a semicolon".to_owned()),
            None => return Ok(found),
            Some(';') if !in_group => return Err("a semicolon that ends no group".to_owned()),
            Some(';') => in_group = false,
            Some(_) => {}
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
    /// The words before the angle bracket as they are meant: quotes undone.
    name: String,
    /// The same as written: an address if no angle bracket follows.
    spec: String,
    /// What stood between the angle brackets.
    angle: Option<&'a str>,
}

impl<'a> Reader<'a> {
    /// Reads up to and over a delimiter, which it returns; `None` at the end of the text.
    fn read_to_delimiter(&mut self) -> Result<Option<char>, String> {
        while let Some(c) = self.rest.chars().next() {
            match c {
                ',' | ';' | ':' if !self.in_literal() => {
                    self.rest = &self.rest[1..];
                    return Ok(Some(c));
                }
                '(' => self.rest = after_comment(self.rest)?,
                '<' => self.read_angle()?,
                _ if self.angle.is_some() && !c.is_whitespace() => {
                    return Err("something follows the address in angle brackets".to_owned());
                }
                '>' => return Err("a closing angle bracket without an opening one".to_owned()),
                '"' => self.read_quoted()?,
                _ => {
                    self.name.push(c);
                    self.spec.push(c);
                    self.rest = &self.rest[c.len_utf8()..];
                }
            }
        }
        Ok(None)
    }

    /// True behind the opening bracket of an address literal, whose colons delimit nothing.
    fn in_literal(&self) -> bool {
        self.spec.rfind('[') > self.spec.rfind(']')
    }

    fn read_quoted(&mut self) -> Result<(), String> {
        let mut escaped = false;
        for (at, c) in self.rest.char_indices().skip(1) {
            match c {
                _ if escaped => {
                    self.name.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => {
                    self.spec.push_str(&self.rest[..=at]);
                    self.rest = &self.rest[at + 1..];
                    return Ok(());
                }
                _ => self.name.push(c),
            }
        }
        Err("a quoted name that does not end".to_owned())
    }

    fn read_angle(&mut self) -> Result<(), String> {
        let mut quoted = false;
        let mut escaped = false;
        for (at, c) in self.rest.char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                '>' if !quoted => {
                    if self.angle.replace(&self.rest[1..at]).is_some() {
                        return Err("two addresses in angle brackets without a comma between".to_owned());
                    }
                    self.rest = &self.rest[at + 1..];
                    return Ok(());
                }
                _ => {}
            }
        }
        Err("an angle bracket that does not close".to_owned())
    }

    /// The mailbox read since the last delimiter; none if there was nothing.
    fn finish(&mut self) -> Result<Option<Named>, String> {
        let words = |e: AddressError| e.to_string();
        let named = match self.angle {
            Some(spec) => {
                let name = self.name.split_whitespace().collect::<Vec<_>>().join(" ");
                Some(((!name.is_empty()).then_some(name), Mailbox::parse(spec.trim()).map_err(words)?))
            }
            None if self.spec.trim().is_empty() => None,
            None => Some((None, Mailbox::parse(self.spec.trim()).map_err(words)?)),
        };
        self.clear();
        Ok(named)
    }

    fn clear(&mut self) {
        self.name.clear();
        self.spec.clear();
        self.angle = None;
    }
}

/// What follows a comment; comments nest (RFC 5322 section 3.2.2).
fn after_comment(text: &str) -> Result<&str, String> {
    let mut depth = 0_usize;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' => depth += 1,
            ')' => {
                depth -= 1;
                if depth == 0 {
                    return Ok(&text[at + 1..]);
                }
            }
            _ => {}
        }
    }
    Err("a comment that does not close".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> Vec<String> {
        list(text, 100)
            .unwrap_or_else(|e| panic!("{text}: {e}"))
            .into_iter()
            .map(|(name, mailbox)| format!("{}|{mailbox}", name.unwrap_or_default()))
            .collect()
    }

    #[test]
    fn mailboxes_are_read_as_rfc_5322_writes_them() {
        for (text, expected) in [
            ("lin@example.com", vec!["|lin@example.com"]),
            ("<lin@example.com>", vec!["|lin@example.com"]),
            ("Lin  Wei <lin@Example.com>", vec!["Lin Wei|lin@example.com"]),
            ("\"Wei, Lin\" <lin@example.com>", vec!["Wei, Lin|lin@example.com"]),
            ("\"a \\\"b\\\" c\" <lin@example.com>", vec!["a \"b\" c|lin@example.com"]),
            ("林伟 <lin@example.com>", vec!["林伟|lin@example.com"]),
            ("=?utf-8?q?Lin?= <lin@example.com>", vec!["=?utf-8?q?Lin?=|lin@example.com"]),
            ("\"a@b\"@example.com", vec!["|\"a@b\"@example.com"]),
            ("<\"a>b\"@example.com>", vec!["|\"a>b\"@example.com"]),
            ("lin@example.com (work (main))", vec!["|lin@example.com"]),
            ("a@[IPv6:2001:db8::1], b@[192.0.2.1]", vec!["|a@[ipv6:2001:db8::1]", "|b@[192.0.2.1]"]),
            ("a@b.example, , c@d.example,", vec!["|a@b.example", "|c@d.example"]),
            ("team: a@b.example, C <c@d.example>;, e@f.example", vec!["|a@b.example", "C|c@d.example", "|e@f.example"]),
            ("undisclosed-recipients:;", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for bad in [
            "lin",
            "lin@example.com wei@example.com",
            "Lin <lin@example.com",
            "Lin lin@example.com>",
            "<a@b.example> <c@d.example>",
            "<a@b.example> x",
            "\"Lin <lin@example.com>",
            "a@b.example; c@d.example",
            "team: a@b.example",
            "a: b: c@d.example;",
            "<a@b.example>: c@d.example;",
            "a@b.example (",
            "Lin <>",
            "Lin\r\nBcc: <lin@example.com>",
            "lin@exam\0ple.com",
        ] {
            assert!(list(bad, 100).is_err(), "{bad:?}");
        }
        assert_eq!(list("a@b.example, c@d.example", 1).unwrap_err(), "more than 1 address");
        for bad in ["", "a@b.example, c@d.example", "a@b.example,", "g: a@b.example;"] {
            assert!(one(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic_or_pass_a_line_break(text in "\\PC{0,60}|[ -~\r\n\0@.<>\"\\\\(),:;a-c]{0,60}") {
            for (name, mailbox) in list(&text, 10).unwrap_or_default() {
                prop_assert!(!mailbox.to_string().contains(['\r', '\n', '\0']));
                prop_assert!(!name.unwrap_or_default().contains(['\r', '\n', '\0']));
            }
        }

        #[test]
        fn every_mailbox_is_read_back(name in "[a-zA-Z\"\\\\,;:<>@() 林]{0,20}", local in "[a-z]{1,8}") {
            let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
            let (read, mailbox) = one(&format!("\"{quoted}\" <{local}@example.com>")).unwrap();
            prop_assert_eq!(mailbox.local(), local);
            let expected = name.split_whitespace().collect::<Vec<_>>().join(" ");
            prop_assert_eq!(read.unwrap_or_default(), expected);
        }
    }
}
