//! What a next hop's refusal asks of us besides what becomes of the mail, as the provider table says it.
//!
//! **Does not know** who asks, nor who obeys.

use std::time::Duration;

/// How many in which span: `10/m`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In which span: a second, a minute, an hour or a day.
    pub per: Duration,
}

impl Rate {
    /// How many a second, on average.
    pub fn per_second(self) -> f64 {
        f64::from(self.count) / self.per.as_secs_f64()
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = match self.per.as_secs() {
            1 => 's',
            60 => 'm',
            3_600 => 'h',
            _ => 'd',
        };
        write!(f, "{}/{unit}", self.count)
    }
}

/// What is to be done besides, towards whom the refusal blames.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Measures {
    /// It is about how much or how fast we send: to send less may be all that it takes.
    pub about_pace: bool,
    /// Send no faster for a while.
    pub slow: Option<Slow>,
    /// Send nothing for so long.
    pub suspend: Option<Duration>,
    /// At most so many connections, for so long.
    pub connections: Option<(u32, Duration)>,
    /// At most so many mails over one connection, from now on.
    pub messages_per_connection: Option<u32>,
    /// Somebody must repair this; until then nothing is sent. What to repair.
    pub fix: Option<String>,
}

impl Measures {
    /// There is nothing to be done.
    pub fn is_empty(&self) -> bool {
        let Self { about_pace: _, slow, suspend, connections, messages_per_connection, fix } = self;
        let lasting = slow.is_some() || suspend.is_some() || connections.is_some();
        !lasting && messages_per_connection.is_none() && fix.is_none()
    }
}

/// A slower pace, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slow {
    /// The pace.
    pub to: Rate,
    /// For how long.
    pub lasts: Duration,
}
