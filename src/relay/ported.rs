//! What carriers have said of numbers' networks: opened at a start, tended while the relay lives.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{Core, StartError, options};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::route::Ported;
use crate::storage::RealDisk;

/// Opens what carriers have said of numbers' networks.
pub(super) async fn open(config: &Config, clock: &SharedClock) -> Result<Ported, StartError> {
    let (file, terms, now) = (options::ported_file(&config.server.data_dir), config.ported.terms, clock.now());
    let opened = tokio::task::spawn_blocking(move || {
        Ported::open(Arc::new(RealDisk), &file, terms, now).map_err(|e| StartError::failed(file.display())(&e))
    });
    opened.await.map_err(|e| StartError::failed("ported numbers")(&e))?
}

/// How often it is looked whether what is known of numbers' networks is too old.
const PORTED_TENDED: Duration = Duration::from_secs(600);

/// Forgets what is too old of numbers' networks.
pub(super) async fn tend(core: Weak<Core>) {
    loop {
        let Some(porting) = core.upgrade().map(|core| core.parts.porting.clone()) else { return };
        porting.tend().await;
        drop(porting);
        tokio::time::sleep(PORTED_TENDED).await;
    }
}
