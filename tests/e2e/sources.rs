//! Where mail leaves from: addresses of this machine, a SOCKS5 proxy (microsocks), a PROXY header to HAProxy.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::peer::MailSink;
use crate::support::relay::{Relay, SENDER_DOMAIN, SINK_DOMAIN, Settings};
use crate::support::{SOON, eventually, test_peers};

/// A proxy as a process; killed when dropped.
struct Proxy(Child);

impl Proxy {
    /// Starts it and waits until it listens.
    fn start(mut command: Command, port: u16) -> Self {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let proxy = Self(child.unwrap_or_else(|e| panic!("{command:?}: {e} (tests/setup brings it)")));
        eventually("the proxy listens", SOON, || TcpStream::connect(("127.0.0.1", port)).ok());
        proxy
    }

    fn socks5(port: u16, leaves_from: &str) -> Self {
        let mut command = Command::new(test_peers().join("microsocks/usr/bin/microsocks"));
        command.args(["-i", "127.0.0.1", "-p", &port.to_string(), "-b", leaves_from, "-u", "relay", "-P", "sesame"]);
        Self::start(command, port)
    }

    fn haproxy(port: u16, dir: &Path) -> Self {
        let file = dir.join("haproxy.cfg");
        let text = format!(
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
             listen egress\n  bind 127.0.0.1:{port} accept-proxy\n  source 0.0.0.0 usesrc clientip\n  server any 0.0.0.0\n"
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(test_peers().join("haproxy/usr/sbin/haproxy"));
        command.arg("-db").arg("-f").arg(&file);
        Self::start(command, port)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Submits a mail of a campaign; its id.
fn submit(relay: &Relay, campaign: &str) -> String {
    let mail = format!(
        "From: <hello@{SENDER_DOMAIN}>\r\nSubject: {campaign}\r\nX-Postrider-Campaign: {campaign}\r\n\r\nHello\r\n"
    );
    relay.submit(&[&format!("lin@{SINK_DOMAIN}")], &mail)
}

#[test]
fn each_campaign_leaves_from_its_own_source() {
    let sink = MailSink::start(0);
    let (socks, haproxy) = (free_port(), free_port());
    let extra = format!(
        r#"
[[source]]
name = "direct"
addresses = ["127.0.0.2"]
hostname = "direct.example"

[[source]]
name = "by-socks"
proxy = "socks5://127.0.0.1:{socks}"
proxy_user = "relay"
password = "sesame"

[[source]]
name = "by-haproxy"
addresses = ["127.0.0.4"]
hostname = "haproxy.example"
proxy = "haproxy://127.0.0.1:{haproxy}"

[[pool]]
name = "spring"
sources = ["by-socks"]
campaigns = ["spring"]

[[pool]]
name = "autumn"
sources = ["by-haproxy"]
campaigns = ["autumn"]

[[pool]]
name = "rest"
sources = ["direct"]
"#
    );
    let relay = Relay::start(&Settings { smtp_port: sink.0.port, extra, ..Settings::default() });

    let _socks = Proxy::socks5(socks, "127.0.0.3");
    let _haproxy = Proxy::haproxy(haproxy, relay.dir());
    for (campaign, source, address, name) in [
        ("other", "direct", "127.0.0.2", "direct.example"),
        ("spring", "by-socks", "127.0.0.3", "relay.test.example"),
        ("autumn", "by-haproxy", "127.0.0.4", "haproxy.example"),
        ("other-again", "direct", "127.0.0.2", "direct.example"),
    ] {
        let id = submit(&relay, campaign);
        assert_eq!(sink.subject(campaign).peer, [address, name], "{campaign}");
        let told = relay.reaches(&id, "delivered");
        assert_eq!(told["recipients"][0]["attempts"][0]["source"], source, "{told}");
    }
    assert!(relay.metric("postrider_source_connections{source=\"direct\"}").is_some());
}

#[test]
fn a_dead_proxy_makes_its_pool_go_on_with_the_others() {
    let sink = MailSink::start(0);
    let dead = free_port();
    let extra = format!(
        r#"
[[source]]
name = "dead"
proxy = "socks5://127.0.0.1:{dead}"

[[source]]
name = "alive"
addresses = ["127.0.0.2"]

[[pool]]
name = "all"
sources = ["dead*1000", "alive"]
"#
    );
    let relay = Relay::start(&Settings { smtp_port: sink.0.port, extra, ..Settings::default() });
    let id = submit(&relay, "one");
    assert_eq!(sink.subject("one").peer[0], "127.0.0.2");
    let told = relay.reaches(&id, "delivered");
    assert_eq!(told["recipients"][0]["attempts"].as_array().map(Vec::len), Some(1), "within one attempt: {told}");
    assert!(relay.log().contains("a source rests towards a site"), "{}", relay.log());
}

#[test]
fn a_paused_source_is_left_alone_until_it_is_resumed() {
    let sink = MailSink::start(0);
    let extra = r#"
[[source]]
name = "one"
addresses = ["127.0.0.2"]

[[source]]
name = "two"
addresses = ["127.0.0.3"]

[[pool]]
name = "alone"
sources = ["one"]
campaigns = ["alone"]

[[pool]]
name = "both"
sources = ["one*1000", "two"]
"#;
    let mut relay = Relay::start(&Settings { smtp_port: sink.0.port, extra: extra.to_owned(), ..Settings::default() });
    submit(&relay, "before");
    assert_eq!(sink.subject("before").peer[0], "127.0.0.2");
    let paused = relay.command(&["pause", "--source", "one", "--reason", "it is on a list"]);
    assert!(paused.status.success(), "{paused:?}");
    let refused = relay.command(&["cancel", "--source", "one", "--reason", "x"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("has no source yet"), "{refused:?}");

    // Others take over, also after a restart; what has no other waits, and says for what.
    submit(&relay, "paused");
    assert_eq!(sink.subject("paused").peer[0], "127.0.0.3");
    relay.kill_9();
    relay.launch();
    submit(&relay, "started");
    assert_eq!(sink.subject("started").peer[0], "127.0.0.3");
    let waits = submit(&relay, "alone");
    let told = relay.explained(&waits, SOON, |m| m["recipients"][0]["attempts"][0]["reason"].is_string());
    let reason = told["recipients"][0]["attempts"][0]["reason"].as_str().unwrap().to_owned();
    assert!(
        reason.contains("source one is held by rule 1 (source one)") && reason.contains("it is on a list"),
        "{told}"
    );

    let resumed = relay.command(&["resume", "--source", "one"]);
    assert!(resumed.status.success(), "{resumed:?}");
    let flushed = relay.command(&["flush"]);
    assert!(flushed.status.success(), "{flushed:?}");
    submit(&relay, "after");
    assert_eq!(sink.subject("after").peer[0], "127.0.0.2");
    relay.reaches(&waits, "delivered");
}
