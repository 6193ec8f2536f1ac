//! A carrier account's settings.

mod sgip;
mod smpp;
mod tls;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use ipnet::IpNet;

pub use self::sgip::{Callback, Sgip};
pub use self::smpp::{Extra, Filling, LongTexts, Smpp, Validity};
pub(super) use self::tls::Securing;
pub use self::tls::Tls;
use super::http::{self, Http};
use super::protocol::sgip::Admission;
use super::protocol::{self, Cut, Login};
use crate::clock::{Mono, Timestamp};
use crate::model::{Secret, SenderId, SmsText};
use crate::sms::Repertoire;
use crate::wire::cmpp;
use crate::wire::gateway::Octets;
use crate::wire::gateway::auth::NameForm;
use crate::wire::smgp::{self, LoginMode, MSG_TYPE_MT};

/// Most binds of one account.
const BINDS_MAX: usize = 64;
/// Largest window of one bind.
const WINDOW_MAX: usize = 4_096;

/// A carrier account. Durations are minima where the other side is waited for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its configured name.
    pub name: Arc<str>,
    /// `host:port`.
    pub address: String,
    /// TLS around what is spoken over binds; `None`: none.
    pub tls: Option<Tls>,
    /// What is spoken, and what only that knows of.
    pub protocol: Protocol,
    /// Who we are to the carrier: at most 15 octets in SMPP, 6 in CMPP, which calls it SP_Id, 8 in SMGP: ClientID, 16 in SGIP.
    pub system_id: String,
    /// Our password; SMPP allows 8 octets, up to 64 are sent. CMPP and SMGP send none, and hash whatever it is. SGIP
    /// sends 16 at most.
    pub password: Secret,
    /// Connections, each bound to send and to receive unless [`Logins`] says otherwise: 1 to 64.
    pub binds: usize,
    /// Most submissions unanswered on each bind: 1 to 4,096.
    pub window: usize,
    /// Most parts a second over all binds; `None`: until the carrier throttles.
    pub rate: Option<f64>,
    /// The sender of texts that name none; `None`: the carrier's own. CMPP, SMGP and SGIP know no senders but
    /// numbers, and need one.
    pub source: Option<SenderId>,
    /// A link on which nothing was heard for so long is asked whether it lives.
    pub enquire_interval: Duration,
    /// How long an answer may take.
    pub response_timeout: Duration,
    /// How long resolving, connecting and binding may take together.
    pub bind_timeout: Duration,
    /// Pause before the first new try after a link was lost; doubled each time.
    pub reconnect_min: Duration,
    /// Longest such pause; also the pause after a refusal of system id or password.
    pub reconnect_max: Duration,
    /// Nothing is sent for so long after the carrier said "throttled".
    pub throttle_pause: Duration,
    /// Receipts of one bind that may be on their way to disk at a time; at the limit reading stops.
    pub receipts_max: usize,
    /// Texts that are no ASCII go in GBK where that holds them; not SMPP.
    pub gbk: bool,
    /// Addresses that may be dialled; empty: any.
    pub allow: Vec<IpNet>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "carrier".into(),
            address: "127.0.0.1:2775".to_owned(),
            system_id: String::new(),
            password: Secret::new(""),
            tls: None,
            protocol: Protocol::default(),
            binds: 1,
            window: 16,
            rate: None,
            source: None,
            enquire_interval: Duration::from_secs(30),
            response_timeout: Duration::from_secs(10),
            bind_timeout: Duration::from_secs(15),
            reconnect_min: Duration::from_secs(1),
            reconnect_max: Duration::from_secs(60),
            throttle_pause: Duration::from_secs(1),
            receipts_max: 256,
            gbk: false,
            allow: Vec::new(),
        }
    }
}

/// What is spoken with a carrier.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "one for each carrier, and seldom moved")]
pub enum Protocol {
    /// SMPP 3.4 or 5.0.
    Smpp(Smpp),
    /// CMPP 2.0 or 3.0.
    Cmpp(Cmpp),
    /// SMGP 3.0 or 1.3.
    Smgp(Smgp),
    /// SGIP 1.2.
    Sgip(Sgip),
    /// HTTP, as a description says.
    Http(Http),
}

impl Protocol {
    /// How the carrier comes to us, if it does.
    pub fn callback(&self) -> Option<&Callback> {
        match self {
            Self::Sgip(account) => Some(&account.callback),
            Self::Smpp(_) | Self::Cmpp(_) | Self::Smgp(_) | Self::Http(_) => None,
        }
    }

    /// What texts may be written in, where that depends on the account.
    pub fn repertoire(&self) -> Option<&Repertoire> {
        match self {
            Self::Smpp(account) => Some(&account.repertoire),
            Self::Cmpp(_) | Self::Smgp(_) | Self::Sgip(_) | Self::Http(_) => None,
        }
    }

    /// How the carrier is asked by HTTP, if it is.
    pub fn http(&self) -> Option<&Http> {
        match self {
            Self::Http(account) => Some(account),
            Self::Smpp(_) | Self::Cmpp(_) | Self::Smgp(_) | Self::Sgip(_) => None,
        }
    }
}

impl Default for Protocol {
    fn default() -> Self {
        Self::Smpp(Smpp::default())
    }
}

/// What only CMPP knows of (C3 section 8.4.3.1).
#[derive(Clone, Debug)]
pub struct Cmpp {
    /// 2.0 or 3.0.
    pub version: cmpp::Version,
    /// Service_Id: the service, as the account was set up; at most 10 octets.
    pub service_id: String,
    /// Msg_src: whose content it is, at most 6 octets; empty: the SP_Id.
    pub msg_src: String,
    /// Fee_UserType: who pays. 0 the destination, 1 the source, 2 the SP (default).
    pub fee_user_type: u8,
    /// FeeType: `01` free (default), `02` by the message, `03` by the month.
    pub fee_type: String,
    /// FeeCode: the fee in fen, at most 6 digits; `0` by default.
    pub fee_code: String,
    /// How an SP_Id shorter than six octets is hashed at the login.
    pub name_form: NameForm,
    /// How often a silent link is asked whether it lives before it is given up; at least 1.
    pub active_tests_max: u32,
}

impl Default for Cmpp {
    fn default() -> Self {
        Self {
            version: cmpp::Version::V2,
            service_id: String::new(),
            msg_src: String::new(),
            fee_user_type: 2,
            fee_type: "01".to_owned(),
            fee_code: "0".to_owned(),
            name_form: NameForm::Bare,
            active_tests_max: 3,
        }
    }
}

/// What only SMGP knows of.
#[derive(Clone, Debug)]
pub struct Smgp {
    /// 3.0 or 1.3.
    pub version: smgp::Version,
    /// What the binds log in for.
    pub logins: Logins,
    /// ServiceID: the service, as the account was set up; at most 10 octets.
    pub service_id: String,
    /// FeeType: `00` free (default), `01` by the message, `02` by the month, `03` by the message up to FixedFee.
    pub fee_type: String,
    /// FeeCode: the fee for a message in fen, at most 6 digits; `0` by default.
    pub fee_code: String,
    /// FixedFee: the fee for a month, or the most, in fen; at most 6 digits, `0` by default. 1.3 has no such field.
    pub fixed_fee: String,
    /// How a ClientID shorter than eight octets is hashed at the login.
    pub name_form: NameForm,
    /// How often a silent link is asked whether it lives before it is given up; at least 1.
    pub active_tests_max: u32,
}

impl Default for Smgp {
    fn default() -> Self {
        Self {
            version: smgp::Version::V30,
            logins: Logins::default(),
            service_id: String::new(),
            fee_type: "00".to_owned(),
            fee_code: "0".to_owned(),
            fixed_fee: "0".to_owned(),
            name_form: NameForm::Bare,
            active_tests_max: 3,
        }
    }
}

/// What the binds of an SMPP or SMGP account log in for, as it was set up there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Logins {
    /// Each to send and to receive.
    #[default]
    Both,
    /// Each to send: reports come nowhere.
    Send,
    /// The first ones to receive, the others, of which there must be one, to send.
    Split {
        /// How many receive; at least 1.
        receivers: usize,
    },
}

impl Logins {
    /// What a bind is for.
    fn of(self, bind: usize) -> LoginMode {
        match self {
            Self::Both => LoginMode::Both,
            Self::Split { receivers } if bind < receivers => LoginMode::Receive,
            Self::Send | Self::Split { .. } => LoginMode::Send,
        }
    }
}

/// A setting no carrier could work with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OptionsError {
    /// The setting.
    pub option: &'static str,
    /// What would be right.
    pub expected: &'static str,
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bad {}: expected {}", self.option, self.expected)
    }
}

impl std::error::Error for OptionsError {}

impl Options {
    /// Checks every bound.
    ///
    /// # Errors
    /// The first setting that is out of bounds.
    pub fn check(&self) -> Result<(), OptionsError> {
        let bad = |option, expected| Err(OptionsError { option, expected });
        match &self.protocol {
            Protocol::Http(account) => account.check()?,
            _ => drop(self.login(0, Timestamp(0), Mono(0), &mut BytesMut::new())?),
        }
        self.securing()?;
        if !(1..=BINDS_MAX).contains(&self.binds) {
            return bad("binds", "1 to 64");
        }
        match self.protocol {
            Protocol::Smpp(Smpp { logins: Logins::Split { receivers }, .. })
            | Protocol::Smgp(Smgp { logins: Logins::Split { receivers }, .. }) => {
                if receivers == 0 {
                    return bad("receivers", "at least 1");
                }
                if self.binds <= receivers {
                    return bad("binds", "more than those that receive: the others send");
                }
            }
            _ => {}
        }
        if !(1..=WINDOW_MAX).contains(&self.window) {
            return bad("window", "1 to 4,096");
        }
        if self.rate.is_some_and(|rate| !(0.01..=1e6).contains(&rate)) {
            return bad("rate", "0.01 to 1,000,000 parts a second");
        }
        if self.receipts_max == 0 {
            return bad("receipts_max", "at least 1");
        }
        if self.reconnect_min.is_zero() || self.reconnect_max < self.reconnect_min {
            return bad("reconnect", "a pause above zero, and a longest pause not below it");
        }
        if self.enquire_interval.is_zero() || self.response_timeout.is_zero() || self.bind_timeout.is_zero() {
            return bad("timeouts", "more than zero");
        }
        Ok(())
    }

    /// Logs in for bind number `bind`, by the wall clock and the monotonic one.
    pub(super) fn login(
        &self,
        bind: usize,
        wall: Timestamp,
        now: Mono,
        out: &mut BytesMut,
    ) -> Result<Box<dyn Login>, OptionsError> {
        match &self.protocol {
            Protocol::Smpp(account) => protocol::smpp::login(self, account, account.logins.of(bind), now, out),
            Protocol::Cmpp(account) => protocol::cmpp::login(self, account, wall, out),
            Protocol::Smgp(account) => protocol::smgp::login(self, account, account.logins.of(bind), wall, out),
            Protocol::Sgip(account) => protocol::sgip::login(self, account, wall, out),
            Protocol::Http(_) => Err(OptionsError { option: "protocol", expected: "one with binds" }),
        }
    }

    /// How connections are secured, if they are.
    pub(super) fn securing(&self) -> Result<Option<Securing>, OptionsError> {
        self.tls.as_ref().map(|tls| Securing::new(tls, &self.address)).transpose()
    }

    /// A text's octets, as what is spoken carries them.
    pub(super) fn cut(&self, text: &SmsText, reference: u8) -> Cut {
        match &self.protocol {
            Protocol::Smpp(account) => protocol::smpp::cut(text, reference, account),
            Protocol::Cmpp(_) => protocol::cmpp::cut(text, reference, self.gbk),
            Protocol::Smgp(_) => protocol::smgp::cut(text, reference, self.gbk),
            Protocol::Sgip(_) => protocol::sgip::cut(text, reference, self.gbk),
            Protocol::Http(_) => http::cut(text),
        }
    }

    /// How the carrier comes to us, if it does.
    pub fn callback(&self) -> Option<&Callback> {
        self.protocol.callback()
    }

    /// What is said to a carrier that comes to us and has shown who it is.
    pub(super) fn admission(&self) -> Admission {
        match &self.protocol {
            Protocol::Sgip(account) => protocol::sgip::admission(account),
            Protocol::Smpp(_) | Protocol::Cmpp(_) | Protocol::Smgp(_) | Protocol::Http(_) => Admission::Unknown,
        }
    }
}

impl Cmpp {
    /// Who we are, at the login.
    pub(super) fn login(&self, system_id: &str, password: &Secret) -> Result<cmpp::session::Login, OptionsError> {
        check_active_tests(self.active_tests_max)?;
        Ok(cmpp::session::Login {
            name: field("system_id", system_id)?,
            secret: password.clone(),
            form: self.name_form,
            version: self.version,
        })
    }

    /// What all SUBMITs of the account share.
    pub(super) fn head(&self, system_id: &str, source: Option<&SenderId>) -> Result<cmpp::Submit, OptionsError> {
        let msg_src = if self.msg_src.is_empty() { system_id } else { &self.msg_src };
        Ok(cmpp::Submit {
            registered_delivery: 1,
            service_id: field("service_id", &self.service_id)?,
            fee_user_type: self.fee_user_type,
            msg_src: field("msg_src", msg_src)?,
            fee_type: field("fee_type", &self.fee_type)?,
            fee_code: field("fee_code", &self.fee_code)?,
            src_id: source_number(source)?,
            ..cmpp::Submit::default()
        })
    }
}

impl Smgp {
    /// Who we are, at a login.
    pub(super) fn login(
        &self,
        system_id: &str,
        password: &Secret,
        mode: LoginMode,
    ) -> Result<smgp::session::Login, OptionsError> {
        check_active_tests(self.active_tests_max)?;
        Ok(smgp::session::Login {
            name: field("system_id", system_id)?,
            secret: password.clone(),
            form: self.name_form,
            mode,
            version: self.version,
        })
    }

    /// What all SUBMITs of the account share.
    pub(super) fn head(&self, source: Option<&SenderId>) -> Result<smgp::Submit, OptionsError> {
        Ok(smgp::Submit {
            msg_type: MSG_TYPE_MT,
            need_report: 1,
            service_id: field("service_id", &self.service_id)?,
            fee_type: field("fee_type", &self.fee_type)?,
            fee_code: field("fee_code", &self.fee_code)?,
            fixed_fee: field("fixed_fee", &self.fixed_fee)?,
            src_term_id: source_number(source)?,
            ..smgp::Submit::default()
        })
    }
}

fn check_active_tests(most: u32) -> Result<(), OptionsError> {
    if most == 0 { Err(OptionsError { option: "active_tests_max", expected: "at least 1" }) } else { Ok(()) }
}

fn source_number(source: Option<&SenderId>) -> Result<Octets<21>, OptionsError> {
    let expected = "a number: CMPP, SMGP and SGIP know no other senders";
    source.and_then(protocol::access_number).ok_or(OptionsError { option: "source", expected })
}

fn field<const WIDTH: usize>(option: &'static str, text: &str) -> Result<Octets<WIDTH>, OptionsError> {
    let expected = "fewer octets (6 in CMPP's system_id, 8 in SMGP's, 6 in msg_src, fee_code and fixed_fee, 10 in service_id, \
                    2 in fee_type) and no NUL";
    Octets::new(option, text).map_err(|_| OptionsError { option, expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_checked() {
        let failing = |change: fn(&mut Options)| {
            let mut options = Options::default();
            change(&mut options);
            options.check().map_err(|e| e.option)
        };
        assert_eq!(failing(|_| {}), Ok(()));
        assert_eq!(failing(|o| o.system_id = "x".repeat(15)), Ok(()));
        assert_eq!(failing(|o| o.system_id = "x".repeat(16)), Err("system_id"));
        assert_eq!(failing(|o| o.password = Secret::new("x".repeat(65))), Err("password"));
        assert_eq!(failing(|o| o.binds = 0), Err("binds"));
        assert_eq!(failing(|o| o.window = WINDOW_MAX + 1), Err("window"));
        assert_eq!(failing(|o| o.rate = Some(0.0)), Err("rate"));
        assert_eq!(failing(|o| o.rate = Some(f64::NAN)), Err("rate"));
        assert_eq!(failing(|o| o.receipts_max = 0), Err("receipts_max"));
        assert_eq!(failing(|o| o.reconnect_max = Duration::ZERO), Err("reconnect"));
        assert_eq!(failing(|o| o.protocol = smpp(|s| s.system_type = "x".repeat(13))), Err("system_type"));
    }

    fn smpp(change: fn(&mut Smpp)) -> Protocol {
        let mut account = Smpp::default();
        change(&mut account);
        Protocol::Smpp(account)
    }

    #[test]
    fn what_has_no_room_in_cmpp_is_refused() {
        let failing = |change: fn(&mut Options, &mut Cmpp)| {
            let mut options = Options { system_id: "900001".to_owned(), ..Options::default() };
            options.source = Some(SenderId::parse("10690001").unwrap());
            let mut account = Cmpp::default();
            change(&mut options, &mut account);
            options.protocol = Protocol::Cmpp(account);
            options.check().map_err(|e| e.option)
        };
        assert_eq!(failing(|_, _| {}), Ok(()));
        assert_eq!(failing(|o, _| o.system_id = "9000001".to_owned()), Err("system_id"));
        assert_eq!(failing(|o, _| o.source = None), Err("source"));
        assert_eq!(failing(|o, _| o.source = Some(SenderId::parse("Shop").unwrap())), Err("source"));
        assert_eq!(failing(|_, c| c.service_id = "x".repeat(11)), Err("service_id"));
        assert_eq!(failing(|_, c| c.msg_src = "9000001".to_owned()), Err("msg_src"));
        assert_eq!(failing(|_, c| c.fee_type = "001".to_owned()), Err("fee_type"));
        assert_eq!(failing(|_, c| c.fee_code = "1000000".to_owned()), Err("fee_code"));
        assert_eq!(failing(|_, c| c.active_tests_max = 0), Err("active_tests_max"));
    }
    #[test]
    fn what_has_no_room_in_smgp_is_refused() {
        let failing = |change: &dyn Fn(&mut Options, &mut Smgp)| {
            let mut options = Options { system_id: "12345678".to_owned(), ..Options::default() };
            options.source = Some(SenderId::parse("10690001").unwrap());
            let mut account = Smgp::default();
            change(&mut options, &mut account);
            options.protocol = Protocol::Smgp(account);
            options.check().map_err(|e| e.option)
        };
        assert_eq!(failing(&|_, _| {}), Ok(()));
        assert_eq!(failing(&|o, _| o.system_id = "123456789".to_owned()), Err("system_id"));
        assert_eq!(failing(&|o, _| o.source = None), Err("source"));
        assert_eq!(failing(&|o, _| o.source = Some(SenderId::parse("Shop").unwrap())), Err("source"));
        assert_eq!(failing(&|_, s| s.service_id = "x".repeat(11)), Err("service_id"));
        assert_eq!(failing(&|_, s| s.fee_type = "001".to_owned()), Err("fee_type"));
        assert_eq!(failing(&|_, s| s.fee_code = "1000000".to_owned()), Err("fee_code"));
        assert_eq!(failing(&|_, s| s.fixed_fee = "1000000".to_owned()), Err("fixed_fee"));
        assert_eq!(failing(&|_, s| s.active_tests_max = 0), Err("active_tests_max"));
        let split = |receivers| Logins::Split { receivers };
        for (binds, receivers, expected) in
            [(1, 1, Err("binds")), (2, 1, Ok(())), (2, 2, Err("binds")), (3, 2, Ok(())), (2, 0, Err("receivers"))]
        {
            let set = |o: &mut Options, s: &mut Smgp| (o.binds, s.logins) = (binds, split(receivers));
            assert_eq!(failing(&set), expected, "{receivers} of {binds}");
        }
        assert_eq!(failing(&|_, s| s.logins = Logins::Send), Ok(()));
    }

    #[test]
    fn two_logins_share_the_work() {
        use LoginMode::{Both, Receive, Send};
        for (logins, modes) in [
            (Logins::Both, [Both, Both, Both]),
            (Logins::Send, [Send; 3]),
            (Logins::Split { receivers: 1 }, [Receive, Send, Send]),
            (Logins::Split { receivers: 2 }, [Receive, Receive, Send]),
        ] {
            assert_eq!([0, 1, 2].map(|bind| logins.of(bind)), modes);
        }
    }
}
