//! What a mail itself wants of TLS (RFC 8689): REQUIRETLS, or `TLS-Required: No`.
//!
//! **Promises.** A mail with REQUIRETLS goes only to a host that somebody vouches for (DNSSEC, MTA-STS or the administrator), with a certificate in its name, and that
//! promises REQUIRETLS itself; where no host can have that it fails, and no other mail is slowed for it. A mail that says
//! `TLS-Required: No` goes whatever its recipient's domain publishes; what the administrator has set holds for it too.
//!
//! **Does not know** how a handshake is made.

use super::hosts::{Host, Source as Named};
use super::tls_policy::{Policy, Source, TlsLevel};
use super::verdict::Setback;
use crate::model::{EnhancedStatus, Failure, MailOrigin, Peer, ReversePath, Scope, Stage, TlsWish};
use crate::route::MailHop;

/// What is shown where a mail demands TLS of every host.
pub(super) const REQUIRED: &str = "REQUIRETLS";
/// What is shown where a mail sets aside what is published.
const WAIVED: &str = "TLS-Required: No";

/// REQUIRETLS support required (RFC 8689 section 7).
const UNSUPPORTED: EnhancedStatus = EnhancedStatus::new(5, 7, 30);

/// What counts of a mail's wish: a notification asks for REQUIRETLS where it is offered, and otherwise goes as all mail does
/// (RFC 8689 sections 4.2.1 and 5).
pub(super) fn of(origin: &MailOrigin) -> TlsWish {
    match (origin.tls, &origin.reverse_path) {
        (TlsWish::Required, ReversePath::Null) => TlsWish::None,
        (wish, _) => wish,
    }
}

/// The default, whatever the recipient's domain publishes (RFC 8689 section 4.2.2).
pub(super) fn waived(default: Policy) -> Policy {
    Policy::new(default.level, Source::Sender(WAIVED), default.hosts)
}

/// What REQUIRETLS makes of the policy that holds otherwise (RFC 8689 section 4.2.1).
///
/// # Errors
/// Nobody can vouch for the hosts that the MX records name, or the administrator wants no TLS.
pub(super) fn demanded(otherwise: Policy, hop: &MailHop) -> Result<Policy, Box<Setback>> {
    if otherwise.level == TlsLevel::Off {
        return Err(Box::new(impossible(None, format!("the TLS policy {} wants no TLS at all", otherwise.name))));
    }
    if let MailHop::Mx(domain) = hop
        && otherwise.hosts.is_empty()
        && !otherwise.asks_dnssec()
    {
        return Err(Box::new(impossible(None, format!("nothing vouches for the mail hosts of {domain}: {NOBODY}"))));
    }
    let level = otherwise.level.max(TlsLevel::Verified);
    Ok(Policy { dane: otherwise.dane, ..Policy::new(level, Source::Sender(REQUIRED), otherwise.hosts) })
}

/// Nobody vouches for a host.
const NOBODY: &str = "no MTA-STS policy in force names them, and DNSSEC does not vouch for the MX records";

/// True unless the mail demands a host that somebody vouches for, and nobody does for this one: no MTA-STS policy and no rule names
/// hosts, DNSSEC does not vouch for the way to it, and the administrator has not named it.
pub(super) fn may_go_to(policy: &Policy, host: &Host) -> bool {
    let named = !policy.hosts.is_empty() || host.vouched || host.source == Named::Operator;
    named || !policy.demands_promise()
}

/// A host that nobody vouches for.
pub(super) fn not_vouched(peer: Peer) -> Setback {
    let why = format!("nothing vouches for {}: {NOBODY}", peer.host);
    impossible(Some(peer), why)
}

/// A host that has a good certificate, and does not promise REQUIRETLS.
pub(super) fn not_promised(peer: Peer) -> Setback {
    let why = format!("{} does not offer REQUIRETLS", peer.host);
    impossible(Some(peer), why)
}

fn impossible(peer: Option<Peer>, why: String) -> Setback {
    let cause = format!("the mail demands {REQUIRED} (RFC 8689), and {why}");
    let failure = Failure::without_reply(Scope::Message, Stage::Tls, UNSUPPORTED, cause);
    Setback { failure, permanent: true, peer }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::email::tls_policy::HostPattern;
    use crate::model::{BodyKind, Domain, Mailbox};

    fn policy(level: TlsLevel, hosts: &[&str]) -> Policy {
        Policy::new(level, Source::Default, hosts.iter().map(|h| HostPattern::parse(h).unwrap()).collect())
    }

    #[test]
    fn a_notification_only_asks_for_what_is_offered() {
        let origin = |reverse_path, tls| MailOrigin {
            reverse_path,
            body: BodyKind::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            tls,
            body_hash: [0; 32],
            header_bytes: 2,
        };
        let shop = || ReversePath::Mailbox(Mailbox::parse("a@shop.example").unwrap());
        for wish in [TlsWish::None, TlsWish::Required, TlsWish::NotRequired] {
            assert_eq!(of(&origin(shop(), wish)), wish);
        }
        assert_eq!(of(&origin(ReversePath::Null, TlsWish::Required)), TlsWish::None);
    }

    #[test]
    fn somebody_must_vouch_for_the_hosts() {
        let mx = MailHop::Mx(Domain::parse("shop.example").unwrap());
        let fixed = MailHop::Fixed("smart.example:25".into());
        for (otherwise, hop, name) in [
            (policy(TlsLevel::Verified, &["mx.example"]), &mx, Some("verified (the mail says REQUIRETLS)")),
            (policy(TlsLevel::Opportunistic, &["mx.example"]), &mx, Some("verified (the mail says REQUIRETLS)")),
            (policy(TlsLevel::Verified, &[]), &mx, None),
            (policy(TlsLevel::Opportunistic, &[]), &fixed, Some("verified (the mail says REQUIRETLS)")),
            (policy(TlsLevel::Off, &[]), &fixed, None),
        ] {
            let hosts = otherwise.hosts.clone();
            match (demanded(otherwise, hop), name) {
                (Ok(policy), Some(name)) => {
                    assert_eq!((&*policy.name, policy.demands_promise(), policy.hosts), (name, true, hosts));
                }
                (Err(setback), None) => {
                    assert!(setback.permanent);
                    assert_eq!((setback.failure.status, setback.failure.scope), (UNSUPPORTED, Scope::Message));
                }
                (other, _) => panic!("{name:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_the_administrator_wants_is_not_waived() {
        let waived = waived(policy(TlsLevel::Required, &[]));
        assert_eq!((&*waived.name, waived.demands_promise()), ("required (the mail says TLS-Required: No)", false));
    }
}
