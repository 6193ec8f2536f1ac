//! `postrider explain`

use std::fmt::Write as _;

use super::control::{Which, unexpected};
use super::opt_outs::sentence;
use super::output::{BOLD, DIM, NAME, paint, plural, printable, size, state_style};
use super::{Failure, output};
use crate::admin::control::{Request, Response};
use crate::model::Number;
use crate::queue::view::{AttemptView, MessageView, RecipientView};

/// Say what became of a message: where it is, why it has not gone, what the other side said
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  postrider explain --config /etc/postrider/postrider.toml 01kat2m9q40003v6h2n8r5x7wz\n  \
                        postrider explain --data-dir /var/lib/postrider lin@example.com\n\nExit code 1 if nothing is known."
)]
pub(super) struct Args {
    /// A message id, a mailbox or a number
    #[arg(value_name = "ID|ADDRESS")]
    what: String,
    #[command(flatten)]
    which: Which,
    /// Most messages shown, the newest first
    #[arg(long, value_name = "N", default_value_t = 10)]
    most: usize,
    /// Print the messages as a JSON array
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let request = Request::Explain { what: self.what.trim().to_owned(), most: self.most };
        let messages = match self.which.ask(&request)? {
            Response::Messages { messages } => messages,
            other => return Err(unexpected(&other)),
        };
        if self.json {
            output::print_json(&messages)?;
            return if messages.is_empty() { Err(Failure::Told) } else { Ok(()) };
        }
        // A relay of another version may not know the question; then there is nothing to say.
        let opt_outs = match Number::parse(&self.what) {
            Ok(number) => self.which.ask(&Request::OptOuts { number: Some(number.as_str().into()), most: 10 }).ok(),
            Err(_) => None,
        };
        let opt_outs = match opt_outs {
            Some(Response::OptOuts { opt_outs, .. }) => opt_outs,
            _ => Vec::new(),
        };
        for entry in &opt_outs {
            output::print(&printable(&format!("{} has {}", entry.number, sentence(entry))))?;
        }
        if messages.is_empty() && opt_outs.is_empty() {
            return Err(Failure::Failed(format!(
                "nothing is known of {}: no such message waits or ended lately",
                printable(&self.what)
            )));
        }
        let shown: Vec<String> = messages.iter().map(for_people).collect();
        Ok(output::print(&shown.join("\n"))?)
    }
}

fn for_people(message: &MessageView) -> String {
    let mut out = String::new();
    let status = paint(state_style(&message.status), &message.status);
    let _ = writeln!(out, "{}  {status}", paint(BOLD, &message.id));
    let _ = writeln!(
        out,
        "  {} {} from client {}, {}",
        message.class,
        message.channel,
        paint(NAME, &message.client),
        size(message.size)
    );
    let mut line = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            let _ = writeln!(out, "  {} {}", paint(DIM, &format!("{name:<9}")), printable(value));
        }
    };
    line("received", Some(&message.received_at));
    line("expires", message.expires_at.as_deref());
    line("campaign", message.campaign.as_deref());
    line("reference", message.client_ref.as_deref());
    for recipient in &message.recipients {
        out.push_str(&recipient_for_people(recipient));
    }
    out
}

fn recipient_for_people(recipient: &RecipientView) -> String {
    let mut out = String::new();
    let status = paint(state_style(&recipient.status), &recipient.status);
    let site = recipient.site.as_deref().map(|site| format!("  site {}", printable(site))).unwrap_or_default();
    let lane = paint(DIM, &format!("lane {}{site}", recipient.lane));
    let _ = writeln!(out, "  to {}  {status}  {lane}", paint(BOLD, &recipient.address));
    let unlisted = (recipient.attempts_made as usize).saturating_sub(recipient.attempts.len());
    if unlisted > 0 {
        let _ =
            writeln!(out, "    {}", paint(DIM, &format!("{} not listed", plural(unlisted as u64, "earlier attempt"))));
    }
    for (i, attempt) in recipient.attempts.iter().enumerate() {
        out.push_str(&attempt_for_people(unlisted + i + 1, attempt));
    }
    for part in &recipient.parts {
        let id = part.carrier_message_id.as_deref().map(|id| format!(" as {id}")).unwrap_or_default();
        let state = paint(state_style(&part.state), &part.state);
        let _ = writeln!(out, "    part {}  {state}  {}{}", part.part, printable(&part.carrier), printable(&id));
        if let Some(receipt) = &part.receipt {
            let at = part.receipt_at.as_deref().unwrap_or_default();
            let _ = writeln!(out, "      receipt {}  {}", printable(at), printable(receipt));
        }
    }
    if let Some(why) = &recipient.waiting_for {
        let _ = writeln!(out, "    {}", printable(why));
    }
    if let Some(next) = &recipient.next_attempt {
        let _ = writeln!(out, "    next attempt {}", printable(next));
    }
    if let Some(limit) = &recipient.limit {
        let _ = writeln!(out, "    {} {}", paint(DIM, "limit"), printable(limit));
    }
    out
}

fn attempt_for_people(number: usize, attempt: &AttemptView) -> String {
    let mut out = String::new();
    let outcome = paint(state_style(&attempt.outcome), &attempt.outcome);
    let _ = write!(out, "    attempt {number}  {}  {outcome}", printable(&attempt.time));
    let peer = [attempt.host.as_deref(), attempt.address.as_deref(), attempt.tls.as_deref()];
    for word in peer.into_iter().flatten() {
        let _ = write!(out, "  {}", printable(word));
    }
    if let Some(source) = &attempt.source {
        let _ = write!(out, "  from {}", printable(source));
    }
    let _ = writeln!(out, "  {}", paint(DIM, &format!("{} ms", attempt.duration_ms)));
    let stage = attempt.stage.as_deref().map(|s| format!("{s}: ")).unwrap_or_default();
    for text in [attempt.reply.as_deref(), attempt.reason.as_deref()].into_iter().flatten() {
        for (i, line) in text.lines().enumerate() {
            let before = if i == 0 { stage.as_str() } else { "" };
            let _ = writeln!(out, "      {}{}", printable(before), printable(line));
        }
    }
    if let Some(policy) = &attempt.tls_policy {
        let _ = writeln!(out, "      {} {}", paint(DIM, "tls policy"), printable(policy));
    }
    if let Some(rule) = &attempt.rule {
        let _ = writeln!(out, "      {} {}", paint(DIM, "rule"), printable(rule));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_told_from_top_to_bottom() {
        let attempt = AttemptView {
            time: "2026-11-23T06:24:01.000000Z".into(),
            outcome: "delayed".into(),
            stage: Some("rcpt".into()),
            reply: Some("451 4.7.1 later,\nplease\u{1b}[2J".into()),
            rule: Some("any-greylist (greylist)".into()),
            reason: None,
            host: Some("mx1.example.net".into()),
            address: Some("192.0.2.1:25".into()),
            tls: None,
            source: Some("mta1".into()),
            tls_policy: None,
            duration_ms: 12,
        };
        let recipient = RecipientView {
            address: "lin@example.net".into(),
            status: "delayed".into(),
            lane: "example.net".into(),
            site: Some("mx mx1.example.net".into()),
            limit: Some("5 connections".into()),
            next_attempt: Some("2026-11-23T06:25:00.000000Z".into()),
            waiting_for: Some("its next attempt".into()),
            attempts: vec![attempt],
            attempts_made: 3,
            parts: vec![],
        };
        let message = MessageView {
            id: "01kat2m9q40003v6h2n8r5x7wz".into(),
            status: "delayed".into(),
            channel: "email".into(),
            client: "shop".into(),
            class: "transactional".into(),
            campaign: None,
            client_ref: Some("order-7".into()),
            received_at: "2026-11-23T06:24:00.000000Z".into(),
            expires_at: None,
            size: 4_200,
            recipients: vec![recipient],
        };
        let shown = for_people(&message);
        assert!(!shown.contains("\u{1b}[2J"));
        assert_eq!(
            anstream::adapter::strip_str(&shown).to_string(),
            "01kat2m9q40003v6h2n8r5x7wz  delayed\n  \
             transactional email from client shop, 4.1 KiB\n  \
             received  2026-11-23T06:24:00.000000Z\n  \
             reference order-7\n  \
             to lin@example.net  delayed  lane example.net  site mx mx1.example.net\n    \
             2 earlier attempts not listed\n    \
             attempt 3  2026-11-23T06:24:01.000000Z  delayed  mx1.example.net  192.0.2.1:25  from mta1  12 ms\n      \
             rcpt: 451 4.7.1 later,\n      \
             please\u{fffd}[2J\n      \
             rule any-greylist (greylist)\n    \
             its next attempt\n    \
             next attempt 2026-11-23T06:25:00.000000Z\n    \
             limit 5 connections\n"
        );
    }
}
