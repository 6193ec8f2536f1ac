//! What texts have cost since the day began: of all clients together and of each.
//!
//! **Promises.** No text is let through with which a day would cost more than its budget; what is taken back ([`Spent`] dropped)
//! counts no more. The sums are kept in a file, which is replaced as a whole; what was taken in the seconds before a crash may
//! be missing from it.
//!
//! **Does not know** the time, prices, and what carriers bill in the end: a text is counted when it is taken, at what its first
//! carrier takes for its parts.
//!
//! **Fails how.** [`Overspent`] says when the next day begins. A file that cannot be read is started without, which is logged.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::model::{ClientName, Money};
use crate::storage::{RealDisk, whole};

/// What a day may cost, and when it begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Budget {
    /// All clients' texts together; `None`: anything.
    pub all: Option<Money>,
    /// Minutes that the clock by which days begin is ahead of UTC.
    pub ahead: i32,
}

/// The sums of a day.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<Day>>);

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Day {
    /// Days since 1970 by the budget's clock.
    number: i64,
    all: Money,
    clients: BTreeMap<ClientName, Money>,
    /// It is not in the file as it is.
    changed: bool,
}

/// The file's line.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    version: u32,
    day: i64,
    /// In millionths.
    all: u64,
    clients: BTreeMap<ClientName, u64>,
}

/// The version that is written and read.
const VERSION: u32 = 1;
/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A day's budget does not allow one more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Overspent {
    /// Whose budget, in words.
    pub whose: String,
    /// What it is.
    pub budget: Money,
    /// When the next day begins.
    pub until: Timestamp,
}

/// What was counted for a text; dropped without [`Spent::keep`], it is taken back.
#[derive(Debug)]
pub struct Spent {
    ledger: Ledger,
    day: i64,
    client: ClientName,
    cost: Money,
}

impl Budget {
    fn day(self, now: Timestamp) -> i64 {
        let seconds = i64::try_from(now.seconds()).unwrap_or(i64::MAX / 2);
        (seconds + i64::from(self.ahead) * 60).div_euclid(86_400)
    }

    fn end_of(self, day: i64) -> Timestamp {
        let seconds = (day + 1) * 86_400 - i64::from(self.ahead) * 60;
        Timestamp::from_seconds(u64::try_from(seconds).unwrap_or_default())
    }
}

impl Ledger {
    /// Counts what a text costs, if the client's budget for a day and everybody's allow it.
    ///
    /// # Errors
    /// [`Overspent`]; then nothing has been counted.
    pub fn spend(
        &self,
        budget: Budget,
        client: &ClientName,
        of_client: Option<Money>,
        cost: Money,
        now: Timestamp,
    ) -> Result<Spent, Overspent> {
        let day = budget.day(now);
        let mut sums = self.0.lock();
        // A clock that was set back does not begin yesterday anew.
        if day > sums.number {
            *sums = Day { number: day, changed: true, ..Day::default() };
        }
        let own = sums.clients.get(client).copied().unwrap_or_default();
        let above = |spent: Money, most: Option<Money>| most.filter(|most| spent.plus(cost) > *most);
        let reached = above(own, of_client).map(|budget| (format!("client {client}"), budget));
        let reached = reached.or_else(|| above(sums.all, budget.all).map(|most| ("all clients".to_owned(), most)));
        if let Some((whose, most)) = reached {
            return Err(Overspent { whose, budget: most, until: budget.end_of(sums.number) });
        }
        if cost > Money::default() {
            sums.all = sums.all.plus(cost);
            sums.clients.insert(client.clone(), own.plus(cost));
            sums.changed = true;
        }
        Ok(Spent { ledger: self.clone(), day: sums.number, client: client.clone(), cost })
    }

    /// What has been spent today, of all and of this client.
    pub fn spent(&self, client: &ClientName) -> (Money, Money) {
        let sums = self.0.lock();
        (sums.all, sums.clients.get(client).copied().unwrap_or_default())
    }

    /// Goes on where the file ends.
    pub fn recall(&self, file: &Path) {
        match read(file) {
            Ok(day) => *self.0.lock() = day,
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => {
                let named = file.display();
                tracing::error!(file = %named, error = %e, "what texts have cost today is not known: budgets begin anew");
            }
        }
    }

    /// Writes the sums down, if they have changed. Blocks.
    ///
    /// # Errors
    /// The disk's.
    pub fn keep(&self, file: &Path) -> io::Result<()> {
        let kept = {
            let mut sums = self.0.lock();
            if !std::mem::take(&mut sums.changed) {
                return Ok(());
            }
            let clients = sums.clients.iter().map(|(name, spent)| (name.clone(), spent.millionths())).collect();
            Kept { version: VERSION, day: sums.number, all: sums.all.millionths(), clients }
        };
        let written = whole::sealed(&kept).and_then(|line| whole::replace(&RealDisk, file, &line));
        written.inspect_err(|_| self.0.lock().changed = true)
    }
}

fn read(file: &Path) -> io::Result<Day> {
    let Kept { day, all, clients, .. } = whole::read(file, VERSION, FILE_BYTES_MAX)?;
    let clients = clients.into_iter().map(|(name, spent)| (name, Money::from_millionths(spent))).collect();
    Ok(Day { number: day, all: Money::from_millionths(all), clients, changed: false })
}

impl Spent {
    /// It was taken: it counts.
    pub fn keep(mut self) {
        self.cost = Money::default();
    }
}

impl Drop for Spent {
    fn drop(&mut self) {
        let mut sums = self.ledger.0.lock();
        if self.cost == Money::default() || sums.number != self.day {
            return;
        }
        sums.all = sums.all.minus(self.cost);
        if let Some(own) = sums.clients.get_mut(&self.client) {
            *own = own.minus(self.cost);
        }
        sums.changed = true;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn money(text: &str) -> Money {
        text.parse().unwrap()
    }

    fn beijing(all: &str) -> Budget {
        Budget { all: Some(money(all)), ahead: 8 * 60 }
    }

    /// 2026-11-27 20:00 in Beijing.
    const EVENING: Timestamp = Timestamp::from_seconds(1_795_780_800);

    #[test]
    fn a_day_costs_no_more_than_its_budget_and_begins_at_midnight_where_it_is_said_to() {
        let (ledger, shop, bank) = (Ledger::default(), ClientName::from("shop"), ClientName::from("bank"));
        let spend = |client: &ClientName, own: Option<&str>, cost: &str, now| {
            let spent = ledger.spend(beijing("1.00"), client, own.map(money), money(cost), now);
            spent.map(Spent::keep).map_err(|over| (over.whose, over.budget.to_string(), over.until))
        };
        let midnight = EVENING.plus(Duration::from_secs(4 * 3_600));
        assert_eq!(spend(&shop, Some("0.50"), "0.40", EVENING), Ok(()));
        let own = Err(("client shop".to_owned(), "0.50".to_owned(), midnight));
        assert_eq!(spend(&shop, Some("0.50"), "0.11", EVENING), own);
        assert_eq!(spend(&shop, Some("0.50"), "0.10", EVENING), Ok(()), "up to the budget");
        assert_eq!(spend(&bank, None, "0.50", EVENING), Ok(()));
        let all = Err(("all clients".to_owned(), "1.00".to_owned(), midnight));
        assert_eq!(spend(&bank, None, "0.01", Timestamp::from_seconds(midnight.seconds() - 1)), all);
        assert_eq!(spend(&bank, None, "0.00", EVENING), Ok(()), "what costs nothing is always allowed");
        assert_eq!(spend(&bank, None, "0.01", midnight), Ok(()));
        assert_eq!(ledger.spent(&bank), (money("0.01"), money("0.01")));
        assert!(spend(&bank, None, "1.00", EVENING).is_err(), "yesterday does not come back");
    }

    #[test]
    fn what_is_taken_back_does_not_count_and_what_was_written_down_does() {
        let dir = tempfile::tempdir().unwrap();
        let (file, shop) = (dir.path().join("spend.json"), ClientName::from("shop"));
        let ledger = Ledger::default();
        drop(ledger.spend(beijing("1.00"), &shop, None, money("0.70"), EVENING).unwrap());
        ledger.spend(beijing("1.00"), &shop, None, money("0.60"), EVENING).unwrap().keep();
        ledger.keep(&file).unwrap();
        let again = Ledger::default();
        again.recall(&file);
        assert_eq!(again.spent(&shop), (money("0.60"), money("0.60")));
        assert!(again.spend(beijing("1.00"), &shop, None, money("0.50"), EVENING).is_err());
        std::fs::write(&file, "rubbish").unwrap();
        let none = Ledger::default();
        none.recall(&file);
        assert_eq!(none.spent(&shop), (Money::default(), Money::default()));
    }
}
