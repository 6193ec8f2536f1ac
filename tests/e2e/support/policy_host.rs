//! A host that serves MTA-STS policies by HTTPS, for as many domains as it has policies for.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::https;

/// The server; it ends with the process.
#[derive(Clone, Debug)]
pub struct PolicyHost {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    policies: Arc<Mutex<HashMap<String, String>>>,
    asked: Arc<AtomicUsize>,
}

impl PolicyHost {
    /// Starts one with a certificate and its key, PEM.
    pub fn start(certificate: &str, key: &str) -> Self {
        let (policies, asked) = (Arc::default(), Arc::default());
        let mut host = Self { port: 0, policies, asked };
        let server = host.clone();
        host.port = https::start(certificate, key, move |stream| server.answer(stream));
        host
    }

    /// What it says of a domain from now on; an empty text is "not found".
    pub fn serve(&self, domain: &str, policy: &str) {
        self.policies.lock().unwrap().insert(format!("mta-sts.{domain}"), policy.to_owned());
    }

    /// How many have asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Whoever hangs up early gets no answer.
    fn answer(&self, mut stream: impl Read + Write) {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let Some(request) = https::header(&mut stream) else { return };
        let host = request.lines().find_map(|l| l.strip_prefix("host: ")?.split(':').next().map(str::to_owned));
        let policies = self.policies.lock().unwrap();
        let policy = host.and_then(|host| policies.get(&host)).filter(|policy| !policy.is_empty());
        let answer = match policy {
            Some(policy) if request.starts_with("get /.well-known/mta-sts.txt ") => {
                let length = policy.len();
                format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{policy}")
            }
            _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
        };
        let _ = stream.write_all(answer.as_bytes());
        let _ = stream.flush();
    }
}
