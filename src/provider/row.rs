//! One row of the reply table: which refusals it knows, and what they mean.
//!
//! **Promises.** A row knows a reply when its code, its enhanced status, its text and its stage all fit; what a row does not
//! name fits always. Text is compared without regard to case, line ends and runs of spaces; what was not UTF-8 has been
//! replaced before and matches nothing, so it does not matter in which character set the rest was written.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{EnhancedStatus, Measures, Reply, Rule, Scope, Stage};

/// One row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Its id and the word of its class.
    pub rule: Rule,
    /// Whose replies it knows; [`super::ANY`] for everybody's.
    pub provider: Arc<str>,
    /// What kind of refusal it is.
    pub class: Class,
    /// Whom it blames.
    pub blames: Scope,
    /// What becomes of the mail.
    pub action: Action,
    /// It is of no use to try again sooner.
    pub retry_after: Option<Duration>,
    /// What else is to be done.
    pub measures: Arc<Measures>,
    pub(super) matcher: Matcher,
}

/// What becomes of the mail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// It is tried again, whatever the code.
    Retry,
    /// It is tried again, from another source if there is one.
    RetryElsewhere,
    /// It goes back to its sender.
    Bounce,
    /// It goes back to its sender, and the address gets no more.
    Suppress,
}

impl Action {
    pub(super) const ALL: [Self; 4] = [Self::Retry, Self::RetryElsewhere, Self::Bounce, Self::Suppress];

    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::RetryElsewhere => "retry-elsewhere",
            Self::Bounce => "bounce",
            Self::Suppress => "suppress",
        }
    }

    /// True if it is the end of the mail for that recipient.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Bounce | Self::Suppress)
    }
}

/// Makes the enum of classes and their words from one list.
macro_rules! classes {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// What kind of refusal it is.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Class { $($(#[$doc])* $name,)* }

        impl Class {
            /// All classes.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word in the file, in events and in metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

impl Class {
    /// It is about how much or how fast we send, and not about what, or about our name.
    pub(super) const fn is_about_pace(self) -> bool {
        matches!(self, Self::RateIp | Self::Limit | Self::Capacity)
    }
}

classes! {
    /// Too much from our address.
    RateIp = "rate-ip",
    /// Too much from a sender's domain.
    RateDomain = "rate-domain",
    /// Too much from one sender.
    RateSender = "rate-sender",
    /// Too much to one recipient.
    RecipientRate = "recipient-rate",
    /// Our address, or a sender's domain, is held in low regard.
    Reputation = "reputation",
    /// Recipients complain.
    Complaints = "complaints",
    /// Too many recipients that do not exist, or senders that are not what they say.
    ListQuality = "list-quality",
    /// SPF, DKIM or DMARC.
    Auth = "auth",
    /// Something of ours is set up wrongly.
    Config = "config",
    /// The same, about our address: its name, its greeting.
    ConfigIp = "config-ip",
    /// Our address is on a block list.
    BlockIp = "block-ip",
    /// A domain in the mail is on a block list.
    BlockDomain = "block-domain",
    /// The content is not wanted.
    Content = "content",
    /// The mail is malformed, too large, or harmful.
    Message = "message",
    /// No such mailbox, or none any more.
    RecipientBad = "recipient-bad",
    /// A full mailbox.
    RecipientFull = "recipient-full",
    /// Too many connections, or too many mails over one.
    Limit = "limit",
    /// The host is overloaded.
    Capacity = "capacity",
    /// The first attempt of a stranger is refused on principle.
    Greylist = "greylist",
}

/// Which replies a row knows. An empty list fits everything.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Matcher {
    pub(super) codes: Vec<RangeInclusive<u32>>,
    pub(super) enhanced: Vec<Pattern>,
    /// One of them must be in the text; all are [`folded`].
    pub(super) text: Vec<String>,
    pub(super) stages: Vec<Stage>,
}

/// Which enhanced status codes: `4.7.26`, `x.7.26`, `4.7.x`, `4.7.850-4.7.899`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Pattern {
    class: Option<u8>,
    subject: u16,
    details: RangeInclusive<u16>,
}

impl Row {
    /// True if it knows this reply; `text` is the reply's, [`folded`].
    pub(super) fn knows(&self, reply: &Reply, text: &str, stage: Stage) -> bool {
        let Matcher { codes, enhanced, text: parts, stages } = &self.matcher;
        (codes.is_empty() || codes.iter().any(|range| range.contains(&reply.code)))
            && (stages.is_empty() || stages.contains(&stage))
            && (enhanced.is_empty() || reply.enhanced.is_some_and(|e| enhanced.iter().any(|p| p.fits(e))))
            && (parts.is_empty() || parts.iter().any(|part| text.contains(part.as_str())))
    }
}

impl Matcher {
    /// True if this knows every reply that `other` knows.
    pub(super) fn hides(&self, other: &Self) -> bool {
        wider(&self.codes, &other.codes, |a, b| a.start() <= b.start() && b.end() <= a.end())
            && wider(&self.stages, &other.stages, |a, b| a == b)
            && wider(&self.enhanced, &other.enhanced, Pattern::includes)
            && wider(&self.text, &other.text, |a, b| b.contains(a.as_str()))
    }

    /// True if it names nothing and so knows everything.
    pub(super) fn is_empty(&self) -> bool {
        self.codes.is_empty() && self.enhanced.is_empty() && self.text.is_empty() && self.stages.is_empty()
    }
}

/// True if whatever fits one of `b` fits one of `a`.
fn wider<T>(a: &[T], b: &[T], includes: impl Fn(&T, &T) -> bool) -> bool {
    a.is_empty() || (!b.is_empty() && b.iter().all(|b| a.iter().any(|a| includes(a, b))))
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let Some((first, last)) = text.split_once('-') else { return Self::single(text) };
        let (first, last) = (Self::single(first)?, Self::single(last)?);
        let (from, to) = (*first.details.start(), *last.details.end());
        let same = (first.class, first.subject) == (last.class, last.subject);
        (same && from < to).then_some(Self { details: from..=to, ..first })
    }

    fn single(text: &str) -> Option<Self> {
        let mut fields = text.split('.');
        let (class, subject, detail) = (fields.next()?, fields.next()?, fields.next()?);
        if fields.next().is_some() {
            return None;
        }
        let class = match class {
            "x" => None,
            "4" => Some(4),
            "5" => Some(5),
            _ => return None,
        };
        let number = |s: &str| s.parse::<u16>().ok().filter(|n| *n <= 999 && s.bytes().all(|b| b.is_ascii_digit()));
        let details = match detail {
            "x" => 0..=999,
            detail => number(detail).map(|n| n..=n)?,
        };
        Some(Self { class, subject: number(subject)?, details })
    }

    fn fits(&self, status: EnhancedStatus) -> bool {
        self.class.is_none_or(|class| class == status.class)
            && self.subject == status.subject
            && self.details.contains(&status.detail)
    }

    fn includes(&self, other: &Self) -> bool {
        (self.class.is_none() || self.class == other.class)
            && self.subject == other.subject
            && self.details.start() <= other.details.start()
            && other.details.end() <= self.details.end()
    }
}

/// Text as it is compared: in small letters, with one space for every run of spaces and line ends.
pub(super) fn folded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.extend(word.chars().flat_map(char::to_lowercase));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_exact_open_or_ranges() {
        let fits =
            |pattern: &str, status: &str| Pattern::parse(pattern).unwrap().fits(EnhancedStatus::parse(status).unwrap());
        assert!(fits("4.7.26", "4.7.26") && !fits("4.7.26", "5.7.26"));
        assert!(fits("x.7.26", "4.7.26") && fits("x.7.26", "5.7.26") && !fits("x.7.26", "5.7.27"));
        assert!(fits("4.7.850-4.7.899", "4.7.850") && fits("4.7.850-4.7.899", "4.7.899"));
        assert!(!fits("4.7.850-4.7.899", "4.7.900") && !fits("4.7.850-4.7.899", "4.7.849"));
        assert!(fits("5.7.x", "5.7.1") && !fits("5.7.x", "5.1.1"));
        for bad in ["", "4", "4.7", "3.1.1", "4.7.9-4.7.8", "4.7.1-5.7.2", "4.7.1-4.6.2", "4.7.1000", "4.7.+1", "x.x.1"]
        {
            assert_eq!(Pattern::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn text_is_folded() {
        assert_eq!(folded("  Your IP\naddress \t  is\u{fffd} BAD "), "your ip address is\u{fffd} bad");
    }
}
