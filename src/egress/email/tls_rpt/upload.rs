//! Handing a report over by HTTPS: one POST (RFC 8460 section 5.4).
//!
//! **Promises.** Private addresses are not dialled unless they are allowed; redirects are not followed; no byte of the answer's
//! body is read. Which certificate will do is the administrator's choice: section 3 lets any do, since whoever has broken TLS
//! with the mail hosts may have broken it here as well.
//!
//! **Fails how.** [`UploadError`]: whether it is of use to try again, and words for the log.

use std::fmt;

use hyper::{Request, header};

use super::super::MailEgress;
use super::record::HttpsUrl;
use crate::egress::https::{HttpsError, Reach, Whole};
use crate::net::AddressPolicy;
use crate::net::tls;

/// The type of a compressed report (section 6.4).
const CONTENT_TYPE: &str = "application/tlsrpt+gzip";

/// Why a report was not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UploadError {
    /// It may be taken later.
    pub again: bool,
    why: String,
}

impl fmt::Display for UploadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl From<HttpsError> for UploadError {
    fn from(error: HttpsError) -> Self {
        Self { again: true, why: error.to_string() }
    }
}

impl MailEgress {
    /// Hands a compressed report over.
    ///
    /// # Errors
    /// [`UploadError`].
    pub async fn upload_report(&self, to: &HttpsUrl, gzipped: Vec<u8>) -> Result<(), UploadError> {
        let options = self.options.load_full();
        let own = &options.tls_reports;
        let with = match &own.authorities {
            Some(authorities) => self.verifying_reports.by(authorities).map_err(|e| HttpsError::new("tls", e))?,
            None => tls::opportunistic(),
        };
        let addresses = AddressPolicy { allow_private: options.allow_private.clone() };
        let reach = Reach { resolver: &self.resolver, addresses, timeout: own.timeout, with };
        let request = Request::post(&*to.target).header(header::CONTENT_TYPE, CONTENT_TYPE).body(Whole::new(gzipped));
        let request = request.map_err(|e| UploadError { again: false, why: format!("{}: {e}", to.host) })?;
        let asking = tokio::time::timeout(own.timeout, reach.ask(to.host.as_str(), to.port, request)).await;
        let late = || HttpsError::new("timeout", format!("{} gave no answer in time", to.host));
        let status = asking.unwrap_or_else(|_| Err(late()))?.response.status();
        // 408, 425 and 429 say "later", whatever their class.
        let again = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
        if status.is_success() {
            return Ok(());
        }
        Err(UploadError { again, why: format!("{} answers {status}", to.host) })
    }
}
