//! What a DKIM signature costs beside the bare operation of its algorithm.
//!
//! ```text
//! cargo bench --bench signing
//! ```
//!
//! *sign* is all that a mail's signature takes: its body in canonical form and its hash, the header fields chosen, in canonical
//! form and hashed, the signature over them, and the field written. *bare* is the algorithm's operation over 32 octets by the
//! same library with the same key. Both are measured in the processor's time of one thread, in rounds that alternate, so that a
//! noisy neighbour meets both; medians are printed, with the least and the most. `openssl speed` of the same run, where there is
//! an openssl, says what another library needs.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::process::Command;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{Ed25519KeyPair, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postrider::clock::Timestamp;
use postrider::mail::dkim::{Algorithm, BodyHash, Generated, Signer, SigningKey, generate};
use postrider::model::Domain;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 11;
const SIZES: [usize; 2] = [4 << 10, 64 << 10];

/// A header section as a shop's mail has it when it is signed.
const HEADER: &str = "Received: from app.shop.example ([192.0.2.7]) by relay.example.com (postrider) with ESMTPSA\r\n\
    \tid 01m8ckbzeg000fztss469qy7dh (TLSv1.3 TLS13_AES_256_GCM_SHA384) for <lin@example.net>;\r\n\
    \tThu, 26 Nov 2026 18:54:58 +0000\r\n\
    Message-ID: <01m8ckbzeg000fztss469qy7dh@relay.example.com>\r\nDate: Thu, 26 Nov 2026 18:54:58 +0000\r\n\
    From: =?utf-8?Q?The_Shop?= <news@shop.example>\r\nReply-To: <help@shop.example>\r\nTo: Lin <lin@example.net>\r\n\
    Subject: =?utf-8?B?5oKo55qE6K6i5Y2V5bey5Y+R6LSn77yM6K+35rOo5oSP5p+l5pS2?=\r\nMIME-Version: 1.0\r\n\
    List-Unsubscribe: <https://shop.example/u?m=01m8ckbzeg000fztss469qy7dh>\r\n\
    List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\
    Content-Type: multipart/alternative; boundary=\"=_01m8ckbzeg\"\r\n\r\n";

type Operation = Box<dyn Fn()>;

fn signer(made: &Generated) -> Signer {
    let key = SigningKey::from_pem(made.private_key_pem.expose().as_bytes()).unwrap();
    Signer::new(&Domain::parse("shop.example").unwrap(), "pr1", key).unwrap()
}

fn pkcs8(made: &Generated) -> Vec<u8> {
    let lines: String = made.private_key_pem.expose().lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(lines).unwrap()
}

fn bare(algorithm: Algorithm, made: &Generated) -> Operation {
    let (der, data) = (pkcs8(made), [7_u8; 32]);
    match algorithm {
        Algorithm::Rsa2048 => {
            let (pair, random) = (rsa::KeyPair::from_pkcs8(&der).unwrap(), SystemRandom::new());
            Box::new(move || {
                let mut signature = [0; 256];
                pair.sign(&RSA_PKCS1_SHA256, &random, black_box(&data), &mut signature).unwrap();
                black_box(signature);
            })
        }
        Algorithm::Ed25519 => {
            let pair = Ed25519KeyPair::from_pkcs8(&der).unwrap();
            Box::new(move || {
                black_box(pair.try_sign(black_box(&data)).unwrap());
            })
        }
    }
}

fn whole(made: &Generated, size: usize) -> Operation {
    let (signer, line) = (signer(made), "Your parcel is on its way, and here is where it is right now:\r\n");
    let body: Vec<u8> = line.bytes().cycle().take(size).collect();
    Box::new(move || {
        let hash = BodyHash::of(black_box(&body));
        black_box(signer.sign(HEADER.as_bytes(), &hash, Timestamp(1_795_415_040_000_000)).unwrap());
    })
}

/// Microseconds of the processor for one.
fn cost(operation: &Operation, times: u32) -> f64 {
    let start = processor_time();
    (0..times).for_each(|_| operation());
    (processor_time() - start).as_secs_f64() * 1e6 / f64::from(times)
}

fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn median(mut of: Vec<f64>) -> (f64, f64, f64) {
    of.sort_by(f64::total_cmp);
    (of[of.len() / 2], of[0], of[of.len() - 1])
}

/// Signatures in a second on one core, as `openssl speed` has them.
fn openssl(algorithm: &str) -> Option<String> {
    let output = Command::new("openssl").args(["speed", "-seconds", "1", algorithm]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().rev().find(|line| line.contains("bits"))?;
    let second_last = line.split_whitespace().rev().nth(1)?.parse::<f64>().ok()?;
    Some(format!("{:.1} µs", 1e6 / second_last))
}

fn main() {
    println!("{:>9} {:>9} {:>24} {:>24} {:>8} {:>16}", "", "bytes", "bare µs", "sign µs", "times", "openssl speed");
    for (algorithm, name, times) in [(Algorithm::Rsa2048, "rsa2048", 200), (Algorithm::Ed25519, "ed25519", 2_000)] {
        let made = generate(algorithm).unwrap();
        for size in SIZES {
            let (bare, whole) = (bare(algorithm, &made), whole(&made, size));
            let (mut bares, mut wholes) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                bares.push(cost(&bare, times));
                wholes.push(cost(&whole, times));
            }
            let ratios = bares.iter().zip(&wholes).map(|(bare, whole)| whole / bare).collect();
            let shown = |of| {
                let (middle, least, most) = median(of);
                format!("{middle:.1} ({least:.1}–{most:.1})")
            };
            let (ratio, ..) = median(ratios);
            let other = openssl(name).unwrap_or_else(|| "-".to_owned());
            println!("{name:>9} {size:>9} {:>24} {:>24} {ratio:>8.2} {other:>16}", shown(bares), shown(wholes));
        }
    }
}
