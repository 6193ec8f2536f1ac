//! `postrider dkim-keygen`

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::output::{BOLD, DIM, paint};
use super::{Failure, output};
use crate::mail::dkim::{Algorithm, Generated, generate};
use crate::model::{Domain, Secret};

/// Make a key that signs mail, and the DNS record that publishes it
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  postrider dkim-keygen --domain shop.example.com --selector pr1 --out \
                        certs/dkim/shop.example.com.pem\n\nAn existing file is never overwritten: mails signed with its key \
                        are still on their way.")]
pub(super) struct Args {
    /// The domain that signs
    #[arg(long)]
    domain: Domain,
    /// The name of the key, a new one for each
    #[arg(long)]
    selector: Domain,
    /// rsa (2048 bits, verified everywhere) or ed25519 (short, not verified everywhere; use both)
    #[arg(long, default_value = "rsa")]
    algorithm: Algorithm,
    /// Where the private key is written, readable by you only
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Print the record as a JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (name, key) = self.make()?;
        if self.json {
            let file = self.out.display().to_string();
            output::print_json(&json!({ "name": name, "type": "TXT", "value": key.dns_txt, "private_key": file }))?;
        } else {
            output::print(&self.for_people(&name, &key))?;
        }
        Ok(())
    }

    /// Makes the key, writes its private half, and returns the record's name with it.
    fn make(&self) -> Result<(String, Generated), Failure> {
        if self.domain.is_literal() || self.selector.is_literal() {
            return Err(Failure::Usage("--domain and --selector: expected names, not addresses".to_owned()));
        }
        let domain = self.domain.to_ascii().map_err(|e| Failure::Usage(format!("--domain: {e}")))?;
        let key = generate(self.algorithm).map_err(Failure::failed)?;
        write_private(&self.out, &key.private_key_pem)
            .map_err(|e| Failure::failed(format!("cannot write {}: {e}", self.out.display())))?;
        Ok((format!("{}._domainkey.{domain}", self.selector), key))
    }

    fn for_people(&self, name: &str, key: &Generated) -> String {
        let strings: Vec<String> = key.dns_strings().iter().map(|s| format!("\"{s}\"")).collect();
        format!(
            "{}\n{} IN TXT ( {} )\n\n{}\n[[dkim]]\ndomain = \"{}\"\nselector = \"{}\"\nprivate_key = \"{}\"\n",
            paint(DIM, "; Publish this record first:"),
            paint(BOLD, &format!("{name}.")),
            strings.join("\n  "),
            paint(DIM, "# Then add this to the configuration (a relative name starts at its directory):"),
            self.domain,
            self.selector,
            output::printable(&self.out.display().to_string()),
        )
    }
}

/// Writes a file that did not exist, for its owner's eyes only, and makes sure that it stays.
fn write_private(path: &Path, content: &Secret) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content.expose().as_bytes())?;
    file.sync_all()?;
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn args(out: PathBuf) -> Args {
        Args {
            domain: Domain::parse("shop.example.com").unwrap(),
            selector: Domain::parse("pr1").unwrap(),
            algorithm: Algorithm::Ed25519,
            out,
            json: false,
        }
    }

    #[test]
    fn a_key_is_written_once_and_for_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("key.pem");
        let (name, _) = args(out.clone()).make().unwrap();
        assert_eq!(name, "pr1._domainkey.shop.example.com");
        let first = std::fs::read_to_string(&out).unwrap();
        assert!(first.starts_with("-----BEGIN PRIVATE KEY-----\n"));
        assert_eq!(std::fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
        let again = args(out.clone()).make();
        assert!(matches!(&again, Err(Failure::Failed(why)) if why.contains("File exists")), "{again:?}");
        assert_eq!(std::fs::read_to_string(&out).unwrap(), first);
    }

    #[test]
    fn the_record_is_ready_for_a_zone_file() {
        let key = generate(Algorithm::Ed25519).unwrap();
        let shown = args("k.pem".into()).for_people("pr1._domainkey.shop.example.com", &key);
        let shown = anstream::adapter::strip_str(&shown).to_string();
        let record = format!("\npr1._domainkey.shop.example.com. IN TXT ( \"{}\" )\n", key.dns_txt);
        assert!(shown.contains(&record), "{shown}");
        assert!(!shown.contains("PRIVATE KEY"));
    }
}
