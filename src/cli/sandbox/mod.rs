//! `postrider sandbox`: a whole relay on loopback, with somewhere for its messages to go.
//!
//! **Promises.** Everything is as in earnest but the two far ends: the relay speaks SMTP and SMPP over sockets to a mail
//! sink and a carrier simulator in this process, and nothing leaves the machine. Credentials are made anew at each start.
//! What it wrote is removed at the end, unless `--data-dir` asked to keep it.

mod place;
mod setup;
pub(super) mod show;

use std::path::PathBuf;

use super::ends::{Arrivals, CarrierEnd, MailEnd};
use super::output::{BOLD, DIM, paint};
use super::{Failure, interrupted, many_threads, output};
use crate::config::Config;
use crate::peers::{carrier, mail_sink};
use crate::relay::Relay;
use place::Place;
use setup::Setup;

/// Try postrider: a relay on this machine whose mail and texts arrive at built-in ends
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  postrider sandbox\n\nIt prints two lines to try in another terminal, then shows each \
                        message arriving. Ctrl-C ends it and removes what it wrote."
)]
pub(super) struct Args {
    /// Keep queue, events and configuration here, for the next time
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print where it listens, what arrives and what happens as JSON objects, one a line
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let place = Place::new(self.data_dir.as_deref())
            .map_err(|e| Failure::failed(format!("cannot make the data directory: {e}")))?;
        many_threads()?.block_on(run(&place, self.json))
    }
}

/// Ports of the two ends if they are free.
const MAIL_SINK: &str = "127.0.0.1:2526";
const CARRIER: &str = "127.0.0.1:2776";

async fn run(place: &Place, json: bool) -> Result<(), Failure> {
    let (inlet, mut arrivals) = Arrivals::new();
    let mail_options = mail_sink::Options {
        address: setup::free(MAIL_SINK),
        keep: Some(inlet.mails),
        ..mail_sink::Options::default()
    };
    let carrier_options = carrier::Options {
        address: setup::free(CARRIER).to_string(),
        received: Some(inlet.texts),
        ..carrier::Options::default()
    };
    let (mail, carrier) = (MailEnd::start(mail_options).await?, CarrierEnd::start(carrier_options).await?);
    let setup = Setup::new(mail.address(), carrier.address())?;
    let file = place.write("sandbox.toml", &setup.configuration(place.path()))?;
    let (config, _) = Config::load(&file).map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        Failure::Failed(lines.join("\n"))
    })?;
    let events = config.events.file.clone();
    // Events of an earlier run in the same directory are not news.
    let mut events = show::Events::after_those_in(events);
    let relay = Relay::start(config, false).await.map_err(Failure::failed)?;

    let http = relay.http_address().ok_or_else(|| Failure::failed("the relay has no HTTP address"))?;
    let smtp = relay.smtp_addresses();
    if json {
        output::print_json(&setup.as_json(&smtp, http, relay.admin_address(), place.path()))?;
    } else {
        output::print(&setup.for_people(&smtp, http, place.path()))?;
        output::print(&paint(DIM, "Messages as they arrive, and what the relay says of them (Ctrl-C ends it):"))?;
    }
    let stop = interrupted();
    tokio::pin!(stop);
    let mut look = tokio::time::interval(show::EVENTS_INTERVAL);
    let shown = loop {
        tokio::select! {
            () = &mut stop => break Ok(()),
            Some(arrival) = arrivals.next() => {
                if let Err(e) = show::arrival(&arrival, json) {
                    break Err(e);
                }
            }
            _ = look.tick() => {
                if let Err(e) = events.show(json) {
                    break Err(e);
                }
            }
        }
    };
    if !json {
        output::remark(&paint(BOLD, "stopping"));
    }
    drop(arrivals);
    relay.stop().await;
    mail.stop().await;
    carrier.stop().await;
    Ok(shown?)
}
