//! What clients were answered, against what they may be answered.

use super::super::model::{Check, Key, Standing, number_of};
use super::super::subject::Answer;
use super::super::trace::note;
use super::super::workload::KEY_AGE_MAX;
use super::Life;

impl Life<'_, '_> {
    pub(super) async fn harvest(&mut self) -> Check {
        let poisoned = self.subject.is_poisoned();
        let flights = std::mem::take(&mut self.flights);
        let together: Vec<(u8, u8)> = flights.iter().filter_map(|f| f.key).collect();
        let mut answers = Vec::with_capacity(flights.len());
        for flight in flights {
            if !flight.answer.is_finished() {
                if !poisoned {
                    return Err(format!("message {} is never answered", flight.number));
                }
                continue;
            }
            let answer = flight.answer.await.map_err(|e| e.to_string())?;
            note!(self.world.trace, "{} was answered {answer:?}", flight.number);
            answers.push((flight.number, flight.key, answer));
        }
        // Of several with one key, any may have been the first; or the key was another's until then.
        let before = self.world.model.keys.clone();
        let repeats = |answer: &Answer| matches!(answer, Answer::Yes { replayed: true, .. });
        answers.sort_by_key(|(.., answer)| repeats(answer));
        for (number, key, answer) in answers {
            let had = key.and_then(|(name, _)| before.get(&name).copied());
            self.answered(number, key, answer, &together, had)?;
        }
        Ok(())
    }

    /// `together`: keys of all that were on their way at the same time; `had`: who had the key before any of them.
    fn answered(
        &mut self,
        number: usize,
        key: Option<(u8, u8)>,
        answer: Answer,
        together: &[(u8, u8)],
        had: Option<Key>,
    ) -> Check {
        let now = self.now();
        let (healthy, stopping) = (self.world.healthy, self.stopping);
        let model = &mut *self.world.model;
        let known = key.and_then(|(name, _)| model.keys.get(&name).copied());
        let spoilt =
            known.is_some_and(|k| model.messages[k.holder].standing == Standing::Spoilt) || model.tolerance > 0;
        match answer {
            Answer::Yes { id, replayed: true } => {
                let is_it = |k: &Key| k.holder == number_of(id) && key.is_none_or(|(_, print)| print == k.fingerprint);
                if !known.iter().chain(&had).any(is_it) {
                    return Err(format!("{number} was answered as a repetition of {id}, not of {known:?} or {had:?}"));
                }
                model.messages[number].standing = Standing::Never;
                model.counts.replayed += 1;
            }
            Answer::Yes { id, replayed: false } => {
                if number_of(id) != number {
                    return Err(format!("{number} was answered with another's id"));
                }
                if let Some(known) = known
                    && known.at.plus(KEY_AGE_MAX) > now
                {
                    if !spoilt {
                        return Err(format!("{number} was taken anew although {known:?} had its key"));
                    }
                    model.tolerance = model.tolerance.saturating_sub(1);
                }
                model.messages[number].standing = Standing::Taken;
                model.counts.accepted += 1;
                if let Some((name, fingerprint)) = key {
                    model.keys.insert(
                        name,
                        Key { holder: number, fingerprint, at: model.messages[number].envelope.received_at },
                    );
                }
            }
            Answer::Refused(why) => {
                use crate::queue::AcceptError::{Full, KeyReused, NoSpace};
                let fine = match why {
                    Full { .. } => true,
                    NoSpace { .. } => !healthy,
                    KeyReused => {
                        let other = |k: Key| key.is_some_and(|(_, print)| print != k.fingerprint);
                        known.is_some_and(other)
                            || key.is_some_and(|(name, print)| together.iter().any(|(n, p)| *n == name && *p != print))
                    }
                    _ => false,
                };
                if !fine {
                    return Err(format!("{number} was refused without need: {why:?}"));
                }
                model.messages[number].standing = Standing::Never;
            }
            Answer::Unsure if healthy && !stopping => {
                return Err(format!("{number} was not answered although nothing failed"));
            }
            Answer::Unsure => {}
        }
        Ok(())
    }
}
