//! What operators may do to a running relay.

use std::time::Duration;

use super::Core;
use crate::admin::control::{Operator, OptOutOrder, Status};
use crate::egress::email::TlsReportsView;
use crate::egress::email::WarmupView;
use crate::model::{Class, Number};
use crate::policy::opt_outs::{OptOut, Which, Whom};
use crate::queue::MessageView;
use crate::queue::steer::{RuleView, Sentence, Swept};
use crate::queue::steering::{Order, Rule, Selector, SteerError};
use crate::queue::view::QueueView;
use crate::route::PortedNumber;

/// How long the overview waits for a backlog that is being taken in.
const PATIENCE: Duration = Duration::from_secs(5);

impl Operator for Core {
    fn queue(&self, lanes_max: usize) -> QueueView {
        // What is still being taken in from disk would be missing; a large backlog is not waited for to its end.
        let _ = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, self.queue.loaded()).await });
        self.queue.overview(lanes_max)
    }

    fn explain(&self, what: &str, most: usize) -> Vec<MessageView> {
        // Operators are served on a thread that may wait.
        self.runtime.block_on(self.queue.explain(what, most))
    }

    fn hold(&self, held: bool, by: &str) {
        tracing::info!(held, by, "an operator holds or resumes sending");
        self.queue.hold_by(held, by);
    }

    fn flush(&self, selector: Selector, by: &str) -> Result<u64, SteerError> {
        // What is still being taken in from disk is meant as well. Operators are served on a thread that may wait.
        self.runtime.block_on(self.queue.loaded());
        self.runtime.block_on(self.queue.flush(selector, by))
    }

    fn order(&self, order: Order, by: &str) -> Result<Rule, SteerError> {
        let rule = self.runtime.block_on(self.queue.order(order, by))?;
        tracing::info!(rule = rule.id, what = %rule.sentence(), by, "an operator has made a rule");
        Ok(rule)
    }

    fn end_rule(&self, action: &str, which: crate::queue::steering::Which, by: &str) -> Result<Rule, SteerError> {
        let rule = self.runtime.block_on(self.queue.end_rule(action, which, by))?;
        tracing::info!(rule = rule.id, by, "an operator has ended a rule");
        Ok(rule)
    }

    fn rules(&self) -> Vec<RuleView> {
        self.queue.rules()
    }

    fn sweep(&self, sentence: Sentence, by: &str, tell: &mut dyn FnMut(Swept)) -> Result<Swept, SteerError> {
        tracing::info!(end = sentence.end.as_str(), what = %sentence.selector, by, "an operator ends what waits");
        self.runtime.block_on(async {
            let sweep = self.queue.sweep(sentence, by).await?;
            Ok(crate::dispatch::carry_out(&self.parts, sweep, tell).await)
        })
    }

    fn warmup(&self) -> Vec<WarmupView> {
        self.parts.mail.warmup()
    }

    fn reset_warmup(
        &self,
        source: &str,
        provider: Option<&str>,
        day: u32,
        by: &str,
    ) -> Result<Vec<WarmupView>, String> {
        let known = self.config.lock().delivery.providers.providers().iter().any(|p| Some(&*p.name) == provider);
        if let Some(provider) = provider.filter(|_| !known) {
            return Err(format!(
                "the provider table knows no provider {provider}: postrider providers list names them"
            ));
        }
        if !self.parts.mail.reset_warmup(source, provider, day) {
            return Err(format!("no source {source} of a pool has a plan to be warmed up by"));
        }
        tracing::info!(source, provider, day, by, "an operator has put a source on a day of its warm-up");
        Ok(self.warmup().into_iter().filter(|view| *view.source == *source).collect())
    }

    fn tls_reports(&self, domains_max: usize) -> TlsReportsView {
        self.parts.mail.tls_reports().view(&self.parts.mail.tls_report_options(), domains_max)
    }

    fn send_tls_reports(&self, by: &str) -> Result<u64, String> {
        let reports = self.parts.mail.tls_reports().send_now(&self.parts.mail.tls_report_options())?;
        tracing::info!(reports, by, "an operator has reports on TLS sent");
        Ok(reports as u64)
    }

    fn opt_outs(&self, number: Option<&str>, most: usize) -> Result<(Vec<OptOut>, u64), String> {
        let Some(number) = number else { return Ok((self.opt_outs.first(most), self.opt_outs.len() as u64)) };
        let mut entries = self.opt_outs.of(&parse_number(number)?);
        let total = entries.len() as u64;
        entries.truncate(most);
        Ok((entries, total))
    }

    fn add_opt_out(&self, order: OptOutOrder, by: &str) -> Result<Option<OptOut>, String> {
        let OptOutOrder { number, whom, class, client } = order;
        let unknown = client.as_ref().filter(|name| self.live.clients.load().named(name).is_none());
        if let Some(name) = unknown {
            return Err(format!("there is no client {name}"));
        }
        let number = parse_number(&number)?.as_str().into();
        let entry = OptOut { number, whom, class, client, since: self.clock.now(), by: by.into() };
        let is_new = self.runtime.block_on(self.parts.replies.add(entry.clone()))?;
        tracing::info!(is_new, by, "an operator has put a number on the list of opt-outs");
        Ok(is_new.then_some(entry))
    }

    fn remove_opt_outs(
        &self,
        number: &str,
        whom: Option<Whom>,
        class: Option<Class>,
        by: &str,
    ) -> Result<Vec<OptOut>, String> {
        let which = Which { whom: whom.into_iter().collect(), class, client: None };
        let removed = self.runtime.block_on(self.parts.replies.remove(&parse_number(number)?, which, by))?;
        tracing::info!(entries = removed.len(), by, "an operator has taken entries off the list of opt-outs");
        Ok(removed)
    }

    fn ported(&self, number: Option<&str>, most: usize) -> Result<(Vec<PortedNumber>, u64), String> {
        let ported = &self.parts.porting.ported;
        let Some(number) = number else { return Ok((ported.newest(most), ported.len() as u64)) };
        let known: Vec<PortedNumber> = ported.of(&parse_number(number)?).into_iter().collect();
        let total = known.len() as u64;
        Ok((known, total))
    }

    fn forget_ported(&self, number: &str, by: &str) -> Result<Option<PortedNumber>, String> {
        let number = parse_number(number)?;
        let known = self.runtime.block_on(self.parts.porting.ported.forget(&number)).map_err(|e| e.to_string())?;
        self.parts.porting.show();
        tracing::info!(known = known.is_some(), by, "an operator has a number's network forgotten");
        Ok(known)
    }

    fn reload(&self) -> Result<Vec<String>, String> {
        Core::reload(self)
    }

    fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.clock.mono().since(self.started).as_secs(),
            held: self.queue.is_held(),
            ready: self.readiness.is_ready(),
            reasons: self.readiness.reasons(),
            listeners: self.listeners.lock().clone(),
        }
    }
}

fn parse_number(number: &str) -> Result<Number, String> {
    Number::parse(number).map_err(|e| e.to_string())
}
