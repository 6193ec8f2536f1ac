//! Debian's mail servers, each with the same task: take mail from loopback, in clear and with STARTTLS offered, and pass all
//! of it on: that for [`CLEAR_DOMAIN`] in clear, that for [`TLS_DOMAIN`] by TLS and with AUTH where the server can, everything
//! else to a sink. What is not said in their configurations is the default of the Debian package.

use std::path::PathBuf;

use super::cell::{Cell, Owned};
use crate::support::relay::{PASSWORD, USER};
use crate::support::smtp::Client;
use crate::support::{SOON, SilentPort, eventually, test_peers};

/// Whose mail goes on without TLS.
pub(super) const CLEAR_DOMAIN: &str = "clear.example";
/// Whose mail goes on with TLS and AUTH.
pub(super) const TLS_DOMAIN: &str = "tls.example";
/// The largest mail that they take.
pub(super) const BYTES_MAX: usize = 20 << 20;

/// Which of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    Postfix,
    Exim,
    OpenSmtpd,
}

/// Where a server passes mail on to: ports of 127.0.0.1.
#[derive(Clone, Copy, Debug)]
pub(super) struct NextHops {
    /// Of the sink.
    pub(super) sink: u16,
    /// For [`CLEAR_DOMAIN`].
    pub(super) clear: u16,
    /// For [`TLS_DOMAIN`].
    pub(super) tls: u16,
}

/// A running server.
#[derive(Debug)]
pub(super) struct Mta {
    /// Where it offers STARTTLS.
    pub(super) tls: u16,
    /// Where it does not.
    pub(super) clear: u16,
    /// Where it offers nothing at all; Postfix only.
    pub(super) bare: u16,
    kind: Kind,
    cell: Cell,
    _ports: [SilentPort; 3],
}

impl Mta {
    /// Starts it and waits until it greets on all its ports.
    pub(super) fn start(kind: Kind, hops: NextHops) -> Self {
        let ports = [SilentPort::take(), SilentPort::take(), SilentPort::take()];
        let [tls, clear, bare] = [&ports[0], &ports[1], &ports[2]].map(|p| p.port);
        let cell = match kind {
            Kind::Postfix => postfix([tls, clear, bare], hops),
            Kind::Exim => exim([tls, clear], hops),
            Kind::OpenSmtpd => opensmtpd([tls, clear], hops),
        };
        let mut mta = Self { tls, clear, bare, kind, cell, _ports: ports };
        let listening = if kind == Kind::Postfix { &[tls, clear, bare][..] } else { &[tls, clear] };
        eventually("the mail server greets", SOON, || {
            assert!(mta.cell.lives(), "{kind:?} has ended");
            let greets = |port: &u16| Client::connect(&format!("127.0.0.1:{port}")).is_ok();
            listening.iter().all(greets).then_some(())
        });
        mta
    }

    /// Where its files lie.
    pub(super) fn dir(&self) -> PathBuf {
        self.cell.dir().to_owned()
    }

    /// What it has logged, and what it said before it could.
    pub(super) fn log(&self) -> String {
        let log = match self.kind {
            Kind::Postfix => &["said", "var/log/mail.log"][..],
            Kind::Exim => &["said", "var/log/exim4/mainlog"],
            Kind::OpenSmtpd => &["said"],
        };
        let read = |name: &&str| std::fs::read(self.cell.path(name)).unwrap_or_default();
        String::from_utf8_lossy(&log.iter().flat_map(read).collect::<Vec<_>>()).into_owned()
    }
}

impl Drop for Mta {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {:?}'s log:\n{}", self.kind, self.log());
        }
    }
}

fn package(name: &str) -> PathBuf {
    test_peers().join(name)
}

/// The third port offers no extension.
fn postfix([tls, clear, bare]: [u16; 3], hops: NextHops) -> Cell {
    let NextHops { sink, clear: clear_hop, tls: tls_hop } = hops;
    let main = format!(
        "\
compatibility_level = 3.6
myhostname = postfix.interop.example
mydestination =
inet_protocols = ipv4
alias_maps =
alias_database =
disable_dns_lookups = yes
relayhost = [127.0.0.1]:{sink}
transport_maps = inline:{{ {{ {CLEAR_DOMAIN} = smtp:[127.0.0.1]:{clear_hop} }}, {{ {TLS_DOMAIN} = smtp:[127.0.0.1]:{tls_hop} }} }}
smtp_tls_security_level = none
smtp_tls_policy_maps = inline:{{ {{ [127.0.0.1]:{tls_hop} = encrypt }} }}
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = inline:{{ {{ [127.0.0.1]:{tls_hop} = {USER}:{PASSWORD} }} }}
smtp_sasl_security_options =
smtpd_tls_security_level = may
smtpd_tls_received_header = yes
smtpd_tls_cert_file = /srv/mx.crt
smtpd_tls_key_file = /srv/mx.key
smtpd_relay_restrictions = permit_mynetworks, reject
message_size_limit = {BYTES_MAX}
mailbox_size_limit = 0
append_dot_mydomain = no
mail_owner = postfix
setgid_group = postdrop
daemon_directory = /mnt/usr/lib/postfix/sbin
command_directory = /mnt/usr/sbin
shlib_directory = no
meta_directory = /etc/postfix
maillog_file = /var/log/mail.log
import_environment = MAIL_CONFIG LD_LIBRARY_PATH
"
    );
    // Debian's master.cf, without chroot, for which its start script would have copied libraries.
    let master = format!(
        "\
127.0.0.1:{tls} inet n - n - - smtpd
127.0.0.1:{clear} inet n - n - - smtpd -o smtpd_tls_security_level=none
127.0.0.1:{bare} inet n - n - - smtpd -o smtpd_tls_security_level=none
  -o smtpd_discard_ehlo_keywords=pipelining,chunking,8bitmime,smtputf8,dsn,size,enhancedstatuscodes
pickup    unix  n - n 60    1 pickup
cleanup   unix  n - n -     0 cleanup
qmgr      unix  n - n 300   1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n -     - trivial-rewrite
bounce    unix  - - n -     0 bounce
defer     unix  - - n -     0 bounce
trace     unix  - - n -     0 bounce
verify    unix  - - n -     1 verify
proxymap  unix  - - n -     - proxymap
proxywrite unix - - n -     1 proxymap
smtp      unix  - - n -     - smtp
relay     unix  - - n -     - smtp
showq     unix  n - n -     - showq
error     unix  - - n -     - error
retry     unix  - - n -     - error
anvil     unix  - - n -     1 anvil
scache    unix  - - n -     1 scache
postlog   unix-dgram n - n - 1 postlogd
"
    );
    let root = package("mta-postfix");
    let files = [("etc/postfix/main.cf", main), ("etc/postfix/master.cf", master)];
    let owned = [Owned("var/spool/postfix", "root"), Owned("var/lib/postfix", "postfix"), Owned("var/log", "root")];
    // Its own check makes the queue's directories, from a list that comes with the package.
    let line = "export LD_LIBRARY_PATH=/mnt/usr/lib/postfix; cp -rn /mnt/etc/postfix/. /etc/postfix; \
                /mnt/usr/sbin/postfix -c /etc/postfix check && exec /mnt/usr/lib/postfix/sbin/master -d";
    Cell::start(&root, &owned, &files, line)
}

fn exim([tls, clear]: [u16; 2], hops: NextHops) -> Cell {
    let NextHops { sink, clear: clear_hop, tls: tls_hop } = hops;
    let configuration = format!(
        "\
exim_path = /mnt/usr/sbin/exim4
primary_hostname = exim.interop.example
daemon_smtp_ports = {tls} : {clear}
local_interfaces = 127.0.0.1
tls_advertise_hosts = ${{if eq{{$received_port}}{{{tls}}}{{*}}}}
tls_certificate = /srv/mx.crt
tls_privatekey = /srv/mx.key
dsn_advertise_hosts = *
message_size_limit = {BYTES_MAX}
acl_smtp_rcpt = accept
acl_smtp_data = accept
host_lookup =
rfc1413_query_timeout = 0s
keep_environment =
notifier_socket =
log_selector = +all
begin routers
clear:
  driver = manualroute
  domains = {CLEAR_DOMAIN}
  transport = clear
  route_list = * 127.0.0.1
  self = send
tls:
  driver = manualroute
  domains = {TLS_DOMAIN}
  transport = tls
  route_list = * 127.0.0.1
  self = send
sink:
  driver = manualroute
  transport = sink
  route_list = * 127.0.0.1
  self = send
begin transports
clear:
  driver = smtp
  port = {clear_hop}
  allow_localhost
  hosts_avoid_tls = *
tls:
  driver = smtp
  port = {tls_hop}
  allow_localhost
  hosts_require_tls = *
  hosts_require_auth = *
sink:
  driver = smtp
  port = {sink}
  allow_localhost
  hosts_avoid_tls = *
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^{USER}^{PASSWORD}
"
    );
    let owned = [
        Owned("var/spool/exim4", "Debian-exim"),
        Owned("var/log/exim4", "Debian-exim"),
        Owned("srv/mx.key", "Debian-exim"),
    ];
    let files = [("etc/exim4/exim4.conf", configuration)];
    Cell::start(&package("mta-exim"), &owned, &files, "exec /mnt/usr/sbin/exim4 -bdf")
}

fn opensmtpd([tls, clear]: [u16; 2], hops: NextHops) -> Cell {
    let NextHops { sink, clear: clear_hop, tls: tls_hop } = hops;
    let configuration = format!(
        "\
pki \"mx.interop.example\" cert \"/srv/mx.crt\"
pki \"mx.interop.example\" key \"/srv/mx.key\"
table credentials {{ postrider = \"{USER}:{PASSWORD}\" }}
smtp max-message-size {BYTES_MAX}
listen on 127.0.0.1 port {tls} tls pki \"mx.interop.example\" hostname \"opensmtpd.interop.example\"
listen on 127.0.0.1 port {clear} hostname \"opensmtpd.interop.example\"
action \"clear\" relay host \"smtp+notls://127.0.0.1:{clear_hop}\"
action \"tls\" relay host \"smtp+tls://postrider@127.0.0.1:{tls_hop}\" auth <credentials> tls no-verify
action \"sink\" relay host \"smtp+notls://127.0.0.1:{sink}\"
match from any for domain \"{CLEAR_DOMAIN}\" action \"clear\"
match from any for domain \"{TLS_DOMAIN}\" action \"tls\"
match from any for any action \"sink\"
"
    );
    // It changes its root to the empty directory.
    let owned = [Owned("var/lib/opensmtpd/empty", "root"), Owned("var/spool", "root")];
    let files = [("etc/smtpd.conf", configuration), ("etc/mailname", "opensmtpd.interop.example\n".to_owned())];
    let line = "exec /mnt/usr/sbin/smtpd -d -v -f /etc/smtpd.conf";
    Cell::start(&package("mta-opensmtpd"), &owned, &files, line)
}
