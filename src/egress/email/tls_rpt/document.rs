//! The report as its reader gets it: JSON (RFC 8460 section 4.4), compressed (section 5.2), under a file's name (section 5.1).
//!
//! **Promises.** The same report gives the same bytes. Its size is bounded by what is counted of one domain.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

use super::options::Reporter;
use super::tally::PolicyResult;
use super::waiting::Report;
use crate::clock::Timestamp;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document<'a> {
    organization_name: &'a str,
    date_range: Range,
    contact_info: String,
    report_id: String,
    policies: &'a [PolicyResult],
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Range {
    start_datetime: String,
    end_datetime: String,
}

/// The report's id: what stands in the report, and in the subject of its mail (section 5.3).
pub fn report_id(report: &Report, by: &Reporter) -> String {
    format!("{}@{}", report.id(), by.domain())
}

/// The name of the report's file. Its sender is the domain of the contact.
pub fn file_name(report: &Report, by: &Reporter) -> String {
    let (start, end) = (report.start.seconds(), report.last_second().seconds());
    format!("{}!{}!{start}!{end}.json.gz", by.contact.domain(), report.domain)
}

/// The report, compressed.
///
/// # Errors
/// None that is known: all of it happens in memory.
pub fn gzipped(report: &Report, by: &Reporter) -> io::Result<Vec<u8>> {
    let mut out = GzEncoder::new(Vec::new(), Compression::default());
    out.write_all(&json(report, by)?)?;
    out.finish()
}

fn json(report: &Report, by: &Reporter) -> io::Result<Vec<u8>> {
    let date_range = Range { start_datetime: in_seconds(report.start), end_datetime: in_seconds(report.last_second()) };
    let document = Document {
        organization_name: &by.organization,
        date_range,
        contact_info: by.contact.to_string(),
        report_id: report_id(report, by),
        policies: &report.policies,
    };
    Ok(serde_json::to_vec_pretty(&document)?)
}

/// RFC 3339 in UTC, without a fraction, as the RFC's examples are.
fn in_seconds(time: Timestamp) -> String {
    let text = time.rfc3339();
    text.split_once('.').map_or_else(|| text.clone(), |(whole, _)| format!("{whole}Z"))
}
