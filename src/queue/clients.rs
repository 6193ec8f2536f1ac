//! Clients by number, and what each of them has queued.

use std::collections::HashMap;

use super::Options;
use crate::model::ClientName;

/// Messages and bytes queued.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Usage {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

/// The clients that have ever been seen since the start.
#[derive(Debug, Default)]
pub(super) struct Clients {
    names: Vec<ClientName>,
    numbers: HashMap<ClientName, u16>,
    usage: Vec<Usage>,
    total: Usage,
}

impl Clients {
    /// A client's number. Names come from the configuration and from records, never from peers.
    pub(super) fn number(&mut self, name: &ClientName) -> u16 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = u16::try_from(self.names.len()).unwrap_or(u16::MAX);
        if usize::from(number) == self.names.len() {
            self.names.push(name.clone());
            self.usage.push(Usage::default());
        }
        self.numbers.insert(name.clone(), number);
        number
    }

    /// The client of that number.
    pub(super) fn name(&self, number: u16) -> ClientName {
        self.names.get(usize::from(number)).cloned().unwrap_or_else(|| ClientName::from(""))
    }

    /// Reserves room for a message, or says that there is none. What is reserved is given back by [`Clients::unreserve`] or,
    /// once the message is in, by its end.
    pub(super) fn reserve(&mut self, number: u16, bytes: u64, options: &Options) -> bool {
        let fits = |usage: &Usage, messages_max: u64, bytes_max: u64| {
            usage.messages < messages_max && usage.bytes.saturating_add(bytes) <= bytes_max
        };
        let own = self.usage.get(usize::from(number)).copied().unwrap_or_default();
        let fits = fits(&own, options.client_messages_max, options.client_bytes_max)
            && fits(&self.total, options.messages_max, options.bytes_max);
        if fits {
            self.reserve_owed(number, bytes);
        }
        fits
    }

    /// Makes room for a message that is already ours, whatever the quotas say.
    pub(super) fn reserve_owed(&mut self, number: u16, bytes: u64) {
        self.usage.get_mut(usize::from(number)).into_iter().for_each(|own| own.add(bytes));
        self.total.add(bytes);
    }

    /// Gives back what was reserved.
    pub(super) fn unreserve(&mut self, number: u16, bytes: u64) {
        self.usage.get_mut(usize::from(number)).into_iter().for_each(|own| own.subtract(bytes));
        self.total.subtract(bytes);
    }

    /// What is queued in all.
    pub(super) fn total(&self) -> Usage {
        self.total
    }
}

impl Usage {
    fn add(&mut self, bytes: u64) {
        self.messages += 1;
        self.bytes += bytes;
    }

    fn subtract(&mut self, bytes: u64) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_per_client_and_for_all() {
        let options = Options { client_messages_max: 2, client_bytes_max: 100, messages_max: 3, ..Options::default() };
        let mut clients = Clients::default();
        let (a, b) = (clients.number(&"a".into()), clients.number(&"b".into()));
        assert_eq!((clients.number(&"a".into()), &*clients.name(b)), (a, "b"));
        assert!(clients.reserve(a, 60, &options) && !clients.reserve(a, 60, &options));
        assert!(clients.reserve(a, 40, &options) && !clients.reserve(a, 0, &options));
        assert!(clients.reserve(b, 60, &options) && !clients.reserve(b, 0, &options), "three in all");
        clients.unreserve(a, 60);
        assert!(clients.reserve(b, 0, &options));
        assert_eq!(clients.total(), Usage { messages: 3, bytes: 100 });
    }
}
