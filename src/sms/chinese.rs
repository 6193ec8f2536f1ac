//! What is Chinese about a text: the signature in 【】 at its head, and letters of full width.
//!
//! **Promises.** Pure; no text panics.
//!
//! **Does not know** who may sign how.

/// The signature at a text's head, without its brackets, and what comes behind it.
pub fn split_signature(text: &str) -> Option<(&str, &str)> {
    let (signature, rest) = text.strip_prefix('【')?.split_once('】')?;
    (!signature.is_empty() && !signature.contains('【')).then_some((signature, rest))
}

/// The same, with all of a text that has none.
pub fn signature_and_rest(text: &str) -> (Option<&str>, &str) {
    split_signature(text).map_or((None, text), |(signature, rest)| (Some(signature), rest))
}

/// The signature at a text's head, without its brackets.
pub fn signature(text: &str) -> Option<&str> {
    signature_and_rest(text).0
}

/// A letter, digit or mark of full width (U+FF01 to U+FF5E, and the ideographic space) in half width; others as they are.
pub fn half_width(c: char) -> char {
    match c {
        '\u{FF01}'..='\u{FF5E}' => char::from_u32(u32::from(c) - 0xFEE0).unwrap_or(c),
        '\u{3000}' => ' ',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_read_off_the_head() {
        assert_eq!(split_signature("【小店】好"), Some(("小店", "好")));
        for none in ["小店", "【】好", "【小店", "好【小店】", "【【小店】】"] {
            assert_eq!(split_signature(none), None, "{none}");
        }
    }

    #[test]
    fn full_width_becomes_half() {
        let narrow: String = "ＴＤ　１２！退".chars().map(half_width).collect();
        assert_eq!(narrow, "TD 12!退");
    }
}
