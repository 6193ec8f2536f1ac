//! Registered texts with places for variables: `您的验证码是{code:digits 4-6}，{minutes:number}分钟内有效。`
//!
//! **Promises.** What [`Template::render`] makes, [`Template::fits`] knows again. A variable holds what its kind says and nothing
//! else: no link, no signature, no end of line, whatever the kind; only one without a kind, which [`Template::loose`] allows, holds
//! anything. What checking a text costs is bounded by the template: at most 20 variables of at most 100 characters.
//!
//! **Does not know** with whom a template is registered, and whose it is.
//!
//! **Fails how.** A template that cannot be read, and variables that do not fit, are refused in words that name the variable.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A registered text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Words(String),
    Variable { name: Arc<str>, kind: Kind },
}

/// What a variable may hold, with its least and most characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Kind {
    takes: Takes,
    least: usize,
    most: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Takes {
    /// 0 to 9.
    Digits,
    /// Digits with one point in between.
    Amount,
    /// ASCII letters, digits, `-` and `_`.
    Id,
    /// Anything but links, 【】 and control characters.
    Text,
    /// Anything.
    Any,
}

/// Why variables do not fit: which, and what would be right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Misfit {
    /// The variable's name.
    pub variable: String,
    /// What is wrong.
    pub why: String,
}

/// Why a template cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TemplateError(String);

/// Most characters of a variable.
const VARIABLE_CHARS_MAX: usize = 100;
/// Most variables of a template.
const VARIABLES_MAX: usize = 20;
const KINDS: &str = "digits 4-6, number, amount, id 32 or text 20";

impl Piece {
    fn is(&self, text: Option<&str>) -> bool {
        match self {
            Self::Words(words) => text == Some(words),
            Self::Variable { kind, .. } => text.is_some_and(|text| kind.takes(text)),
        }
    }
}

impl Kind {
    /// `digits 4-6`, `number`, `amount`, `id 32`, `text 20`.
    fn parse(text: &str) -> Option<Self> {
        let (word, size) = text.trim().split_once(' ').map_or((text.trim(), None), |(w, s)| (w, Some(s.trim())));
        let (takes, least, most) = match (word, size) {
            ("number", None) => (Takes::Digits, 1, 10),
            ("amount", None) => (Takes::Amount, 1, 13),
            ("digits", Some(size)) => {
                let (least, most) = size.split_once('-').unwrap_or((size, size));
                (Takes::Digits, least.parse().ok()?, most.parse().ok()?)
            }
            ("id", Some(size)) => (Takes::Id, 1, size.parse().ok()?),
            ("text", Some(size)) => (Takes::Text, 1, size.parse().ok()?),
            _ => return None,
        };
        (1..=most).contains(&least).then_some(())?;
        (most <= VARIABLE_CHARS_MAX).then_some(Self { takes, least, most })
    }

    fn takes(self, value: &str) -> bool {
        let length = value.chars().count();
        (self.least..=self.most).contains(&length)
            && match self.takes {
                Takes::Digits => value.bytes().all(|b| b.is_ascii_digit()),
                Takes::Amount => {
                    let (whole, part) = value.split_once('.').unwrap_or((value, "0"));
                    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                    digits(whole) && digits(part)
                }
                Takes::Id => value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')),
                Takes::Text => {
                    !value.contains(|c: char| c.is_control() || matches!(c, '【' | '】')) && !holds_link(value)
                }
                Takes::Any => true,
            }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Self { takes, least, most } = self;
        match takes {
            Takes::Digits if least == most => write!(f, "{most} digits"),
            Takes::Digits => write!(f, "{least} to {most} digits"),
            Takes::Amount => f.write_str("an amount, such as 12.50"),
            Takes::Id => write!(f, "at most {most} ASCII letters, digits, - and _"),
            Takes::Text => write!(f, "1 to {most} characters without links, 【 and 】"),
            Takes::Any => write!(f, "1 to {most} characters"),
        }
    }
}

/// Is there something that a handset makes a link of: a scheme, or a name with a point between letters?
fn holds_link(value: &str) -> bool {
    let characters: Vec<char> = value.chars().collect();
    let named = characters.windows(3).any(|w| {
        let letter = |c: char| c.is_ascii_alphanumeric();
        matches!(w[1], '.' | '。' | '．') && letter(w[0]) && w[2].is_ascii_alphabetic()
    });
    named || value.contains("://")
}

impl Template {
    /// The text with its variables' values; all misfits at once.
    ///
    /// # Errors
    /// [`Misfit`]s: a variable that is missing, is not the template's, or holds what its kind does not.
    pub fn render<'v>(&self, values: impl Fn(&str) -> Option<&'v str>, given: &[&str]) -> Result<String, Vec<Misfit>> {
        let mut misfits: Vec<Misfit> = Vec::new();
        let mut misfit = |variable: &str, why: String| {
            if !misfits.iter().any(|known| known.variable == variable) {
                misfits.push(Misfit { variable: variable.to_owned(), why });
            }
        };
        for name in given.iter().filter(|name| !self.variables().any(|(known, _)| known == **name)) {
            let known: Vec<&str> = self.variables().map(|(name, _)| name).collect();
            misfit(name, format!("the template knows no such variable (it has {})", known.join(", ")));
        }
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Words(words) => text.push_str(words),
                Piece::Variable { name, kind } => match values(name) {
                    Some(value) if kind.takes(value) => text.push_str(value),
                    Some(_) => misfit(name, format!("expected {kind}")),
                    None => misfit(name, format!("missing; expected {kind}")),
                },
            }
        }
        if misfits.is_empty() { Ok(text) } else { Err(misfits) }
    }

    /// Could this text have been made from it?
    pub fn fits(&self, text: &str) -> bool {
        self.reached(text).last().is_some_and(|ends| ends.contains(&text.len()))
    }

    /// The variables of a text that could have been made from it, in their order, with what they hold; where there is a choice, the
    /// later ones hold less.
    pub fn values<'t>(&self, text: &'t str) -> Option<Vec<(&str, &'t str)>> {
        let reached = self.reached(text);
        let mut end = text.len();
        reached.last().filter(|ends| ends.contains(&end))?;
        let mut values = Vec::new();
        for (piece, starts) in self.pieces.iter().zip(&reached).rev() {
            let start = *starts.iter().rev().find(|start| piece.is(text.get(**start..end)))?;
            if let Piece::Variable { name, .. } = piece {
                values.push((&**name, &text[start..end]));
            }
            end = start;
        }
        values.reverse();
        Some(values)
    }

    /// Places in the text, in bytes, up to which the pieces may reach: at first, and after each.
    fn reached(&self, text: &str) -> Vec<Vec<usize>> {
        let mut reached = vec![vec![0]];
        for piece in &self.pieces {
            let mut next: Vec<usize> = Vec::new();
            for &at in reached.last().into_iter().flatten() {
                let rest = &text[at..];
                match piece {
                    Piece::Words(words) if rest.starts_with(words.as_str()) => next.push(at + words.len()),
                    Piece::Words(_) => {}
                    Piece::Variable { kind, .. } => {
                        let ends = rest.char_indices().map(|(i, c)| i + c.len_utf8()).take(kind.most);
                        next.extend(ends.filter(|end| kind.takes(&rest[..*end])).map(|end| at + end));
                    }
                }
            }
            next.sort_unstable();
            next.dedup();
            reached.push(next);
        }
        reached
    }

    /// Reads one whose variables may have no kind: those hold 1 to 100 characters, whatever they are.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn loose(text: &str) -> Result<Self, TemplateError> {
        Self::read(text, Some(Kind { takes: Takes::Any, least: 1, most: VARIABLE_CHARS_MAX }))
    }

    fn variables(&self) -> impl Iterator<Item = (&str, Kind)> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Words(_) => None,
            Piece::Variable { name, kind } => Some((&**name, *kind)),
        })
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        Self::read(text, None)
    }
}

impl Template {
    fn read(text: &str, kindless: Option<Kind>) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((words, behind)) = rest.split_once('{') {
            if !words.is_empty() {
                pieces.push(Piece::Words(words.to_owned()));
            }
            let (inside, behind) =
                behind.split_once('}').ok_or_else(|| TemplateError("a { without its }".to_owned()))?;
            let (name, kind) = inside.split_once(':').map_or((inside, None), |(name, kind)| (name, Some(kind)));
            let name = name.trim();
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(TemplateError(format!("\"{name}\" is no name of a variable: ASCII letters, digits and _")));
            }
            let kind = kind.map_or(kindless, Kind::parse);
            let kind = kind.ok_or_else(|| TemplateError(format!("{{{inside}}}: expected {KINDS}")))?;
            if let (Some(Piece::Variable { .. }), Takes::Text | Takes::Any) = (pieces.last(), kind.takes) {
                return Err(TemplateError(format!("{{{inside}}}: nothing stands between it and the variable before")));
            }
            pieces.push(Piece::Variable { name: name.into(), kind });
            rest = behind;
        }
        if rest.contains('}') {
            return Err(TemplateError("a } without its {".to_owned()));
        }
        if !rest.is_empty() {
            pieces.push(Piece::Words(rest.to_owned()));
        }
        if pieces.iter().any(|piece| matches!(piece, Piece::Words(words) if words.contains(['【', '】']))) {
            return Err(TemplateError("the signature is not part of a template".to_owned()));
        }
        if pieces.iter().filter(|piece| matches!(piece, Piece::Variable { .. })).count() > VARIABLES_MAX {
            return Err(TemplateError(format!("more than {VARIABLES_MAX} variables")));
        }
        if !pieces.iter().any(|piece| matches!(piece, Piece::Words(_))) {
            return Err(TemplateError("there are no words in it".to_owned()));
        }
        Ok(Self { pieces })
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TemplateError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn template(text: &str) -> Template {
        text.parse().unwrap()
    }

    fn rendered(template: &Template, values: &[(&str, &str)]) -> Result<String, String> {
        let given: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
        let value = |name: &str| values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let words =
            |misfits: Vec<Misfit>| misfits.iter().map(|m| format!("{}: {}", m.variable, m.why)).collect::<Vec<_>>();
        template.render(value, &given).map_err(|misfits| words(misfits).join("; "))
    }

    #[test]
    fn variables_are_filled_in_if_they_are_what_they_should_be() {
        let code = template("您的验证码是{code:digits 4-6}，{minutes:number}分钟内有效。");
        assert_eq!(
            rendered(&code, &[("code", "123456"), ("minutes", "5")]).as_deref(),
            Ok("您的验证码是123456，5分钟内有效。")
        );
        assert_eq!(
            rendered(&code, &[("code", "12345678"), ("mintes", "5")]).unwrap_err(),
            "mintes: the template knows no such variable (it has code, minutes); code: expected 4 to 6 digits; \
             minutes: missing; expected 1 to 10 digits"
        );
        let order = template("{who:text 10}，订单{order:id 20}共{sum:amount}元");
        let good = [("who", "李雷"), ("order", "A-17_b"), ("sum", "12.50")];
        assert_eq!(rendered(&order, &good).as_deref(), Ok("李雷，订单A-17_b共12.50元"));
        for (name, bad) in [
            ("who", "evil.example/x"),
            ("who", "http://x"),
            ("who", "【大店】"),
            ("who", "a\nb"),
            ("who", ""),
            ("who", "12345678901"),
            ("order", "A 17"),
            ("sum", "12."),
            ("sum", "1.2.3"),
            ("sum", "free"),
        ] {
            let values = good.map(|(known, value)| (known, if known == name { bad } else { value }));
            assert!(rendered(&order, &values).unwrap_err().starts_with(name), "{name} {bad}");
        }
        assert!(rendered(&order, &[("who", "v1.5"), good[1], good[2]]).is_ok(), "a version is no link");
    }

    #[test]
    fn a_text_is_known_again() {
        let order = template("{who:text 10}，订单{order:id 20}已发货{note:text 20}");
        for (text, fits) in [
            ("李雷，订单A1已发货，请查收", true),
            ("订单，订单A1已发货！", true),
            ("李雷，订单A1已发货", false),
            ("李雷，订单已发货！", false),
            ("李雷，订单A1已发货！更多请看 shop.example", false),
            ("x李雷，订单A1已发货！", true),
            ("", false),
        ] {
            assert_eq!(order.fits(text), fits, "{text}");
        }
        assert!(template("你好").fits("你好") && !template("你好").fits("你好！"));
    }

    #[test]
    fn a_texts_variables_are_read_out_of_it() {
        let loose = Template::loose("您的验证码是{1}，{minutes}分钟内有效").unwrap();
        let code = "您的验证码是123456，5分钟内有效";
        assert_eq!(loose.values(code), Some(vec![("1", "123456"), ("minutes", "5")]));
        assert_eq!(loose.values("您的验证码是123456，分钟内有效"), None);
        let order = template("{who:text 10}，订单{order:id 20}已发货{note:text 20}");
        let values = order.values("订单，订单A1已发货，请查收").unwrap();
        assert_eq!(values, [("who", "订单"), ("order", "A1"), ("note", "，请查收")]);
        let either = Template::loose("{a}，{b}").unwrap();
        assert_eq!(either.values("1，2，3"), Some(vec![("a", "1，2"), ("b", "3")]));
        let next = "{a}{b}";
        assert!(Template::loose(next).is_err(), "nothing says where the one ends");
    }

    #[test]
    fn a_template_that_cannot_be_read_says_why() {
        for (text, why) in [
            ("码{code", "a { without its }"),
            ("码}", "a } without its {"),
            ("码{:number}", "\"\" is no name of a variable: ASCII letters, digits and _"),
            ("码{code}", "{code}: expected digits 4-6, number, amount, id 32 or text 20"),
            ("码{code:digits 6-4}", "{code:digits 6-4}: expected digits 4-6, number, amount, id 32 or text 20"),
            ("码{code:text 101}", "{code:text 101}: expected digits 4-6, number, amount, id 32 or text 20"),
            ("码{a:number}{b:text 5}", "{b:text 5}: nothing stands between it and the variable before"),
            ("【小店】{code:number}", "the signature is not part of a template"),
            ("{code:number}", "there are no words in it"),
            ("", "there are no words in it"),
        ] {
            assert_eq!(text.parse::<Template>().unwrap_err().to_string(), why, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_made_is_known_again(who in "[a-zA-Z李雷 ，。]{1,10}", code in "[0-9]{4,6}") {
            let template = template("{who:text 10}的码{code:digits 4-6}，勿告他人");
            if let Ok(text) = rendered(&template, &[("who", &who), ("code", &code)]) {
                prop_assert!(template.fits(&text));
                prop_assert_eq!(template.values(&text).map(|values| values[1].1.to_owned()), Some(code.clone()));
                prop_assert!(!template.fits(&text[..text.len() - 3]));
            }
        }

        #[test]
        fn no_text_makes_it_panic(written in "\\PC{0,30}|[a{}:digts0-9 ]{0,40}", text in "\\PC{0,60}") {
            for template in [written.parse(), Template::loose(&written)].into_iter().flatten() {
                let values = template.values(&text);
                prop_assert_eq!(values.is_some(), template.fits(&text));
            }
        }
    }
}
