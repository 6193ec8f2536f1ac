//! How a sandbox's relay is set up, and the lines to try with it.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::super::hash_password::hash;
use super::super::output::{BOLD, DIM, NAME, paint, printable};
use super::Failure;
use crate::model::Secret;

/// Ports the relay takes if they are free.
const SMTP: &str = "127.0.0.1:2525";
const HTTP: &str = "127.0.0.1:8025";
const ADMIN: &str = "127.0.0.1:8026";

/// The address, or one with a free port of the system's choice if it is taken.
pub(super) fn free(wanted: &str) -> SocketAddr {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    match wanted.parse() {
        Ok(wanted) if TcpListener::bind(wanted).is_ok() => wanted,
        _ => address,
    }
}

/// Ends and credentials of one sandbox.
pub(super) struct Setup {
    mail: SocketAddr,
    carrier: SocketAddr,
    password: Secret,
    password_hash: String,
    api_key: Secret,
}

impl Setup {
    pub(super) fn new(mail: SocketAddr, carrier: SocketAddr) -> Result<Self, Failure> {
        let (password, api_key) = (Secret::new(random_word()?), Secret::new(format!("sandbox-{}", random_word()?)));
        let password_hash = hash(&password)?;
        Ok(Self { mail, carrier, password, password_hash, api_key })
    }

    /// The configuration, with what a first try wants: quick retries, everything to the two ends.
    pub(super) fn configuration(&self, data_dir: &Path) -> String {
        let key = hexadecimal(digest(&SHA256, self.api_key.expose().as_bytes()).as_ref());
        format!(
            r#"# Written by postrider sandbox at each start.
[server]
hostname = "sandbox.postrider.example"
data_dir = {data_dir}

[[listener]]
address = "{smtp}"
tls = "none"
plaintext_auth = true

[http]
address = "{http}"

[admin]
address = "{admin}"

[[client]]
name = "sandbox"
password = "{hash}"
api_keys = ["sha256:{key}"]
senders = ["*"]

[queue]
retry = ["2s", "5s", "10s"]
expire = "10m"

[delivery]
allow_private = ["127.0.0.0/8"]

[[route]]
domains = ["*"]
next_hop = "{mail}"

[[carrier]]
name = "simulator"
protocol = "smpp"
address = "{carrier}"
system_id = "sandbox"
password = "sandbox"

[[sms_route]]
prefixes = ["+"]
carriers = ["simulator"]
"#,
            data_dir = toml::Value::from(&*data_dir.to_string_lossy()),
            smtp = free(SMTP),
            http = free(HTTP),
            admin = free(ADMIN),
            hash = self.password_hash,
            mail = self.mail,
            carrier = self.carrier,
        )
    }

    /// Where everything is, for a program.
    pub(super) fn as_json(
        &self,
        smtp: &[SocketAddr],
        http: SocketAddr,
        admin: Option<SocketAddr>,
        data_dir: &Path,
    ) -> Value {
        json!({
            "sandbox": {
                "smtp": smtp, "http": http, "admin": admin, "data_dir": data_dir.to_string_lossy(),
                "user": "sandbox", "password": self.password.expose(), "api_key": self.api_key.expose(),
                "mail_sink": self.mail, "carrier": self.carrier,
            }
        })
    }

    /// Where everything is and what to try, for a person.
    pub(super) fn for_people(&self, smtp: &[SocketAddr], http: SocketAddr, data_dir: &Path) -> String {
        let (mail, text) = if curl_is_there() { self.with_curl(http) } else { self.with_load(http) };
        let smtp = smtp.first().map(ToString::to_string).unwrap_or_default();
        let directory = printable(&data_dir.display().to_string());
        format!(
            "{title}\n\n  HTTP {http}, SMTP {smtp} (user sandbox, password {password})\n\n{mail_title}\n\n  {mail}\n\n\
             {text_title}\n\n  {text}\n\n{explain_title}\n\n  {program} explain --data-dir {directory} ID\n",
            program = this_program(),
            title = paint(BOLD, "A postrider relay is running on this machine."),
            http = paint(NAME, &format!("http://{http}")),
            smtp = paint(NAME, &smtp),
            password = self.password.expose(),
            mail_title = paint(DIM, "Send a mail:"),
            text_title = paint(DIM, "Send a text:"),
            explain_title = paint(DIM, "Ask what became of one, with the id from the answer:"),
        )
    }

    fn with_curl(&self, http: SocketAddr) -> (String, String) {
        let line = |path: &str, body: &str| {
            format!(
                "curl -sS http://{http}/v1/{path} -H 'Authorization: Bearer {}' -H 'Content-Type: application/json' -d '{body}'",
                self.api_key.expose()
            )
        };
        (
            line(
                "email",
                r#"{"from":"shop@example.com","to":["lin@example.net"],"subject":"Hello","text":"It works."}"#,
            ),
            line("sms", r#"{"to":"+8613800138000","text":"【Shop】Your order has left. 您的订单已发货。"}"#),
        )
    }

    fn with_load(&self, http: SocketAddr) -> (String, String) {
        let line = |protocol: &str| {
            format!(
                "{} load --protocol {protocol} --to {http} --api-key {} --messages 1 --connections 1",
                this_program(),
                self.api_key.expose()
            )
        };
        (line("email"), line("sms"))
    }
}

/// How the program that is running can be called from where it was: it may not be in PATH.
fn this_program() -> String {
    let Ok(program) = std::env::current_exe() else { return "postrider".to_owned() };
    let here = std::env::current_dir().unwrap_or_default();
    let name = program.strip_prefix(here).map_or_else(|_| program.clone(), |below| Path::new(".").join(below));
    printable(&name.display().to_string())
}

/// 128 bits nobody can guess, in hexadecimal.
fn random_word() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Failure::failed("the system gives no random bytes"))?;
    Ok(hexadecimal(&bytes))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn curl_is_there() -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join("curl").is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::model::{Class, Domain, Number};
    use crate::route::MailHop;

    #[test]
    fn the_configuration_is_right_and_leads_to_the_two_ends() {
        let (mail, carrier) = (SocketAddr::from(([127, 0, 0, 1], 4)), SocketAddr::from(([127, 0, 0, 1], 5)));
        let setup = Setup::new(mail, carrier).unwrap();
        let text = setup.configuration(Path::new("/tmp/an \"odd\" place"));
        let (config, warnings) = Config::parse(Path::new("/tmp/sandbox.toml"), &text).unwrap();
        assert_eq!(warnings, []);
        assert_eq!(config.server.data_dir, Path::new("/tmp/an \"odd\" place"));
        let hop = config.routes.mail_hop(&Domain::parse("example.net").unwrap());
        assert_eq!(hop, MailHop::Fixed("127.0.0.1:4".into()));
        let number = Number::parse("+8613800138000").unwrap();
        assert!(config.routes.text.course(&number, Class::Otp, &"shop".into()).is_some());
        assert_eq!(&*config.carriers[0].address, "127.0.0.1:5");
        assert!(!text.contains(setup.api_key.expose()) && !text.contains(setup.password.expose()));
        let shown = setup.for_people(&[], mail, Path::new("/tmp"));
        assert!(shown.contains(setup.api_key.expose()));
    }

    #[test]
    fn a_taken_port_is_not_taken() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(free(&address.to_string()).port(), 0);
    }
}
