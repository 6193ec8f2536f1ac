//! Files and environment variables that a configuration names: certificates, keys, secrets, the provider table.
//!
//! **Promises.** Relative names resolve against the configuration file's directory. A file that cannot be read is a mistake
//! at the key that names it; a secret that every user of the machine may read is a warning. No content is ever repeated.
//!
//! **Does not know** what is inside, beyond whether it looks like PEM of the right kind; of a provider table, what that module
//! says.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::mistake::{Fault, Mistake};
use super::reader::{Notes, Section};
use super::value;
use crate::dns::dnssec::Anchors;
use crate::model::Secret;
use crate::net::Authorities;
use crate::provider::Table;

/// Largest file taken: no certificate chain, key or password comes near it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Read by the owner, the group and everybody: the bit for everybody.
const READABLE_BY_OTHERS: u32 = 0o004;

/// A file's name made absolute, or at least relative to the same place as the configuration file's.
pub(super) fn resolve(notes: &Notes<'_>, name: &str) -> PathBuf {
    notes.file.parent().unwrap_or_else(|| Path::new("")).join(name)
}

/// Reads the certificate chain that a required key names.
pub(super) fn certificate(section: &mut Section<'_>, key: &str) -> Option<(PathBuf, Vec<u8>)> {
    let name = section.required(key, r#""certs/relay.crt""#, value::text)?;
    let path = resolve(section.notes, &name);
    let bytes = load(section, key, &path)?;
    if !contains(&bytes, b"-----BEGIN CERTIFICATE-----") {
        section.mistake(
            key,
            format!("{} holds no certificate", path.display()),
            "expected PEM: -----BEGIN CERTIFICATE-----",
        );
        return None;
    }
    Some((path, bytes))
}

/// Reads the authorities that a key names; without it they are the system's.
pub(super) fn authorities(section: &mut Section<'_>, key: &str) -> Authorities {
    let Some(name) = section.optional(key, value::text) else { return Authorities::System };
    let path = resolve(section.notes, &name);
    let Some(bytes) = load(section, key, &path) else { return Authorities::System };
    let authorities = Authorities::Pem(bytes.into());
    if let Err(e) = authorities.check() {
        let right = "expected PEM: -----BEGIN CERTIFICATE-----, one or several";
        section.mistake(key, format!("{}: {e}", path.display()), right);
    }
    authorities
}

/// Reads the keys of DNSSEC that a key names; without it they are the root's.
pub(super) fn anchors(section: &mut Section<'_>, key: &str) -> Anchors {
    let Some(name) = section.optional(key, value::text) else { return Anchors::default() };
    let path = resolve(section.notes, &name);
    let Some(bytes) = load(section, key, &path) else { return Anchors::default() };
    match Anchors::parse(&String::from_utf8_lossy(&bytes)) {
        Ok(anchors) => anchors,
        Err(why) => {
            let right = "expected DNSKEY records, one a line, such as: . IN DNSKEY 257 3 8 AwEAAa...";
            section.mistake(key, format!("{}: {why}", path.display()), right);
            Anchors::default()
        }
    }
}

/// Reads the private key that a required key names.
pub(super) fn private_key(section: &mut Section<'_>, key: &str, example: &str) -> Option<(PathBuf, Secret)> {
    let name = section.required(key, example, value::text)?;
    let path = resolve(section.notes, &name);
    let bytes = load(section, key, &path)?;
    warn_if_open(section, key, &path);
    match String::from_utf8(bytes) {
        Ok(pem) if pem.contains("-----BEGIN ") && pem.contains("PRIVATE KEY-----") => Some((path, Secret::new(pem))),
        _ => {
            let right = "expected PEM: -----BEGIN PRIVATE KEY-----";
            section.mistake(key, format!("{} holds no private key", path.display()), right);
            None
        }
    }
}

/// The password of a section: `password`, or what `password_file` or `password_env` names; at most one of the three.
pub(super) fn password(section: &mut Section<'_>) -> Option<(&'static str, Secret)> {
    secret(section, ["password", "password_file", "password_env"])
}

/// A secret that stands at the first of three keys, in the file that the second names, or in the environment variable that
/// the third names; and at which.
pub(super) fn secret<'k>(section: &mut Section<'_>, keys: [&'k str; 3]) -> Option<(&'k str, Secret)> {
    let [here_key, file_key, env_key] = keys;
    let here = section.optional(here_key, value::secret);
    let file = section.optional(file_key, value::text);
    let env = section.optional(env_key, value::text);
    let keys: Vec<&str> = keys.into_iter().filter(|key| section.notes.has(&section.key_of(key))).collect();
    if let [_, .., last] = keys[..] {
        section.mistake(last, format!("{} stand together", keys.join(" and ")), "keep one of them");
        return None;
    }
    if let Some(secret) = here {
        warn_if_the_file_is_open(section, here_key);
        return Some((here_key, secret));
    }
    if let Some(name) = file {
        let path = resolve(section.notes, &name);
        let bytes = load(section, file_key, &path)?;
        warn_if_open(section, file_key, &path);
        return match String::from_utf8(bytes) {
            Ok(text) if !text.trim_end_matches(['\r', '\n']).is_empty() => {
                Some((file_key, Secret::new(text.trim_end_matches(['\r', '\n']))))
            }
            _ => {
                section.mistake(file_key, format!("{} holds no text", path.display()), "expected one line");
                None
            }
        };
    }
    let name = env?;
    if !is_variable_name(&name) {
        // Not repeated: somebody may have put the secret itself here.
        let right = format!("expected a name such as CMCC_1_PASSWORD; the secret itself goes into {here_key}");
        section.mistake(env_key, "not the name of an environment variable", right);
        return None;
    }
    match section.notes.env(&name).filter(|v| !v.is_empty()) {
        Some(text) => Some((env_key, Secret::new(text))),
        None => {
            let right = "set it in the environment of the relay, and of check";
            section.mistake(env_key, format!("environment variable {name} is not set"), right);
            None
        }
    }
}

/// Reads the provider table that a key names. Its mistakes are reported where they stand, in that file.
pub(super) fn providers(section: &mut Section<'_>, key: &str) -> Option<Arc<Table>> {
    let name = section.optional(key, value::text)?;
    let path = resolve(section.notes, &name);
    let bytes = load(section, key, &path)?;
    let Ok(text) = String::from_utf8(bytes) else {
        section.mistake(key, format!("{} is not UTF-8", path.display()), "begin with a copy of config/providers.toml");
        return None;
    };
    match Table::parse(&text) {
        Ok(table) => Some(Arc::new(table)),
        Err(mistakes) => {
            for mistake in mistakes {
                let crate::provider::Mistake { line, column, key: place, wrong, right } = mistake;
                let mistake = Mistake { file: path.clone(), line, column, key: place, wrong, right };
                section.notes.mistake_elsewhere(&section.key_of(key), mistake);
            }
            None
        }
    }
}

/// The lines of a file that a key names, without empty ones and those that begin with `#`.
pub(super) fn lines(section: &mut Section<'_>, key: &str) -> Option<Vec<String>> {
    let name = section.optional(key, value::text)?;
    let path = resolve(section.notes, &name);
    let Ok(text) = String::from_utf8(load(section, key, &path)?) else {
        section.mistake(key, format!("{} is not UTF-8", path.display()), "write one word a line");
        return None;
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Some(lines.map(str::to_owned).collect())
}

fn is_variable_name(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_ascii_uppercase() || c == '_');
    begins && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

pub(super) fn load(section: &Section<'_>, key: &str, path: &Path) -> Option<Vec<u8>> {
    match read_bounded(path) {
        Ok(bytes) => Some(bytes),
        Err(fault) => {
            section.mistake(key, fault.wrong, fault.right);
            None
        }
    }
}

/// Opens a file; `None` if it is no regular one. A pipe without a writer is not waited for.
pub(super) fn open_regular(path: &Path) -> std::io::Result<Option<File>> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(nonblocking).open(path)?;
    let regular = file.metadata()?.is_file();
    Ok(regular.then_some(file))
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, Fault> {
    let right = "name a file that the relay's user may read; relative names start at this file's directory";
    let fault = |e: std::io::Error| Fault::new(format!("cannot read {}: {e}", path.display()), right);
    let Some(file) = open_regular(path).map_err(fault)? else {
        return Err(Fault::new(format!("{} is no regular file", path.display()), right));
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Fault::new(format!("{} is larger than 1 MiB", path.display()), right));
    }
    Ok(bytes)
}

fn warn_if_open(section: &Section<'_>, key: &str, path: &Path) {
    if is_open(path) {
        section.warn(key, format!("every user may read {}", path.display()), format!("chmod 640 {}", path.display()));
    }
}

/// A carrier's password or an operators' token in clear makes the whole configuration a secret; a client's hash is none.
fn warn_if_the_file_is_open(section: &Section<'_>, key: &str) {
    let file = section.notes.file;
    if (section.path.starts_with("carrier[") || section.path == "admin") && is_open(file) {
        let advice = format!("chmod 640 {}, or use {key}_file", file.display());
        section.warn(key, format!("every user may read {}", file.display()), advice);
    }
}

fn is_open(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & READABLE_BY_OTHERS != 0)
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(bytes, needle).is_some()
}
