//! What only SGIP knows of: fees, the node's number, and how the gateway's own connections are told.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use super::{OptionsError, source_number};
use crate::model::{Secret, SenderId};
use crate::wire::FieldError;
use crate::wire::gateway::Octets;
use crate::wire::sgip::{self, REPORT_ALWAYS, sequence};

/// Most connections of one gateway to us.
const CONNECTIONS_MAX: usize = 1_000;

/// What only SGIP knows of (S12 sections 3.3 and 5).
#[derive(Clone, Debug)]
pub struct Sgip {
    /// The area code of our node, 1 to 4 digits, as in `010`.
    pub area_code: String,
    /// CorpId: our number, 5 digits.
    pub corp_id: String,
    /// ServiceType: the service, as the account was set up; at most 10 octets.
    pub service_type: String,
    /// FeeType: 0 and 1 free (1 by default), 2 by the message, 3 by the month, 4 by our own account.
    pub fee_type: u8,
    /// FeeValue: the fee in fen, at most 6 digits; `0` by default.
    pub fee_value: String,
    /// GivenValue: what the receiver is given, in fen, at most 6 digits; `0` by default.
    pub given_value: String,
    /// ChargeNumber: who pays; 21 zeros, the default, are the SP, nothing is the receiver.
    pub charge_number: String,
    /// A link to the gateway that had nothing to do for so long is ended, until there is a text: SGIP cannot ask whether
    /// the other side lives.
    pub idle: Duration,
    /// How the gateway comes to us.
    pub callback: Callback,
}

/// The connections that a gateway makes to us, over which it delivers and reports.
#[derive(Clone, Debug)]
pub struct Callback {
    /// Where we listen, as configured; several carriers may share it.
    pub listen: SocketAddr,
    /// The name that the gateway binds with, at most 16 octets.
    pub login: String,
    /// Its password, at most 16 octets, which travels in clear.
    pub password: Secret,
    /// Where it may come from.
    pub from: Vec<IpNet>,
    /// Most connections at a time: 1 to 1,000.
    pub connections_max: usize,
    /// How long a connection may take to bind.
    pub bind_timeout: Duration,
    /// A connection over which nothing came for so long is ended.
    pub idle: Duration,
}

impl Default for Sgip {
    fn default() -> Self {
        Self {
            area_code: String::new(),
            corp_id: String::new(),
            service_type: String::new(),
            fee_type: 1,
            fee_value: "0".to_owned(),
            given_value: "0".to_owned(),
            charge_number: "0".repeat(21),
            idle: Duration::from_secs(50),
            callback: Callback::default(),
        }
    }
}

impl Default for Callback {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8801)),
            login: String::new(),
            password: Secret::new(""),
            from: Vec::new(),
            connections_max: 16,
            bind_timeout: Duration::from_secs(10),
            idle: Duration::from_secs(300),
        }
    }
}

impl Callback {
    /// True if a gateway may come from there.
    pub(in crate::egress::sms) fn admits(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.from.iter().any(|net| net.contains(&peer))
    }

    fn check(&self) -> Result<(), OptionsError> {
        let bad = |option, expected| Err(OptionsError { option, expected });
        field::<16>("callback.login", &self.login)?;
        field::<16>("callback.password", self.password.expose())?;
        if self.from.is_empty() {
            return bad("callback.from", "at least one network");
        }
        if !(1..=CONNECTIONS_MAX).contains(&self.connections_max) {
            return bad("callback.connections_max", "1 to 1,000");
        }
        if self.bind_timeout.is_zero() || self.idle.is_zero() {
            return bad("callback.timeouts", "more than zero");
        }
        Ok(())
    }
}

impl Sgip {
    /// Our node, of which the sequence numbers are.
    ///
    /// # Errors
    /// [`OptionsError`] if area code or number are not made of digits.
    pub(in crate::egress::sms) fn node(&self) -> Result<u32, OptionsError> {
        let wrong = |e: FieldError| OptionsError {
            option: if e.field == "CorpId" { "corp_id" } else { "area_code" },
            expected: "1 to 4 digits of area_code and 5 of corp_id",
        };
        sequence::sp_node(&self.area_code, &self.corp_id).map_err(wrong)
    }

    /// Who we are, at a login.
    pub(in crate::egress::sms) fn login(
        &self,
        system_id: &str,
        password: &Secret,
    ) -> Result<sgip::session::Login, OptionsError> {
        if self.idle.is_zero() {
            return Err(OptionsError { option: "idle", expected: "more than zero" });
        }
        self.callback.check()?;
        field::<16>("password", password.expose())?;
        Ok(sgip::session::Login { name: field("system_id", system_id)?, password: password.clone() })
    }

    /// What all SUBMITs of the account share.
    pub(in crate::egress::sms) fn head(&self, source: Option<&SenderId>) -> Result<sgip::Submit, OptionsError> {
        Ok(sgip::Submit {
            sp_number: source_number(source)?,
            charge_number: field("charge_number", &self.charge_number)?,
            corp_id: field("corp_id", &self.corp_id)?,
            service_type: field("service_type", &self.service_type)?,
            fee_type: self.fee_type,
            fee_value: field("fee_value", &self.fee_value)?,
            given_value: field("given_value", &self.given_value)?,
            // No request of the receiver's has caused it.
            mo_relate_to_mt_flag: 2,
            report_flag: REPORT_ALWAYS,
            ..sgip::Submit::default()
        })
    }
}

fn field<const WIDTH: usize>(option: &'static str, text: &str) -> Result<Octets<WIDTH>, OptionsError> {
    let expected =
        "fewer octets (16 in names and passwords, 21 in charge_number, 10 in service_type, 6 in fees) and no NUL";
    Octets::new(option, text).map_err(|_| OptionsError { option, expected })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::sms::{Options, Protocol};

    #[test]
    fn what_has_no_room_in_sgip_is_refused() {
        let failing = |change: fn(&mut Options, &mut Sgip)| {
            let mut options = Options { system_id: "postrider".to_owned(), ..Options::default() };
            options.source = Some(SenderId::parse("10690001").unwrap());
            let mut account = Sgip { area_code: "010".to_owned(), corp_id: "12345".to_owned(), ..Sgip::default() };
            account.callback.from = vec!["10.0.0.0/8".parse().unwrap()];
            change(&mut options, &mut account);
            options.protocol = Protocol::Sgip(account);
            options.check().map_err(|e| e.option)
        };
        assert_eq!(failing(|_, _| {}), Ok(()));
        assert_eq!(failing(|o, _| o.system_id = "x".repeat(17)), Err("system_id"));
        assert_eq!(failing(|o, _| o.password = Secret::new("x".repeat(17))), Err("password"));
        assert_eq!(failing(|o, _| o.source = None), Err("source"));
        assert_eq!(failing(|o, _| o.source = Some(SenderId::parse("Shop").unwrap())), Err("source"));
        assert_eq!(failing(|_, s| s.area_code = "01000".to_owned()), Err("area_code"));
        assert_eq!(failing(|_, s| s.corp_id = "1234".to_owned()), Err("corp_id"));
        assert_eq!(failing(|_, s| s.service_type = "x".repeat(11)), Err("service_type"));
        assert_eq!(failing(|_, s| s.fee_value = "1000000".to_owned()), Err("fee_value"));
        assert_eq!(failing(|_, s| s.given_value = "1000000".to_owned()), Err("given_value"));
        assert_eq!(failing(|_, s| s.charge_number = "0".repeat(22)), Err("charge_number"));
        assert_eq!(failing(|_, s| s.idle = Duration::ZERO), Err("idle"));
        assert_eq!(failing(|_, s| s.callback.login = "x".repeat(17)), Err("callback.login"));
        assert_eq!(failing(|_, s| s.callback.password = Secret::new("x".repeat(17))), Err("callback.password"));
        assert_eq!(failing(|_, s| s.callback.from = Vec::new()), Err("callback.from"));
        assert_eq!(failing(|_, s| s.callback.connections_max = 0), Err("callback.connections_max"));
        assert_eq!(failing(|_, s| s.callback.bind_timeout = Duration::ZERO), Err("callback.timeouts"));
    }

    #[test]
    fn a_gateway_comes_from_its_networks_only() {
        let nets = ["10.0.0.0/8", "2001:db8::/32"].map(|net| net.parse().unwrap());
        let callback = Callback { from: nets.to_vec(), ..Callback::default() };
        for (peer, admitted) in
            [("10.1.2.3", true), ("::ffff:10.1.2.3", true), ("2001:db8::1", true), ("11.0.0.1", false), ("::1", false)]
        {
            assert_eq!(callback.admits(peer.parse().unwrap()), admitted, "{peer}");
        }
    }
}
