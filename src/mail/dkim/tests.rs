//! Signatures against the RFCs' own, and against verification written from RFC 6376 section 6.1.3.

use aws_lc_rs::signature::{ED25519, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject;

use super::canonical::relaxed_field;
use super::*;
use crate::clock::Timestamp;
use crate::mail::header::{Field, fields};
use crate::model::Domain;

/// RFC 8463 appendix A.3.
const RFC_8463: &str = "\
DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r
 d=football.example.com; i=@football.example.com;\r
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r
 subject : date : message-id : from : subject : date;\r
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r
 d=football.example.com; i=@football.example.com;\r
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r
 date : message-id : from : subject : date;\r
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3\r
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\r
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=\r
From: Joe SixPack <joe@football.example.com>\r
To: Suzie Q <suzie@shopping.example.net>\r
Subject: Is dinner ready?\r
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r
Message-ID: <20030712040037.46341.5F8J@football.example.com>\r
\r
Hi.\r
\r
We lost the game.  Are you hungry yet?\r
\r
Joe.\r
";

/// RFC 8463 appendix A.2.
const RFC_8463_ED25519: &str = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
const RFC_8463_RSA: &str = "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB";

fn tag<'a>(field: &'a str, name: &str) -> &'a str {
    let of = |spec: &'a str| spec.trim().strip_prefix(name)?.trim_start().strip_prefix('=');
    field.split(';').find_map(of).unwrap_or_else(|| panic!("no {name}= in {field}"))
}

fn packed(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

/// Verifies the `nth` signature of a mail, judged alone.
fn verify(mail: &[u8], nth: usize, dns_txt: &str) -> Result<(), String> {
    let all: Vec<Field<'_>> = fields(mail).collect();
    let own = all.iter().filter(|f| f.is("DKIM-Signature")).nth(nth).ok_or("no such signature")?;
    let value = String::from_utf8(own.value().into_owned()).unwrap();
    if packed(tag(&value, "bh")) != STANDARD.encode(BodyHash::of(&mail[fields(mail).section_bytes()..])) {
        return Err("body hash".to_owned());
    }
    let mut left: Vec<&Field<'_>> = all.iter().collect();
    let mut data = Vec::new();
    for name in tag(&value, "h").split(':') {
        if let Some(at) = left.iter().rposition(|f| f.is(name.trim())) {
            relaxed_field(left.remove(at), &mut data);
        }
    }
    let raw = std::str::from_utf8(own.raw()).unwrap();
    let b = raw.rfind("b=").unwrap() + 2;
    let emptied = format!("{}\r\n", &raw[..b]);
    relaxed_field(&fields(emptied.as_bytes()).next().unwrap(), &mut data);
    data.truncate(data.len() - 2);

    let signature = STANDARD.decode(packed(tag(&value, "b"))).map_err(|e| e.to_string())?;
    let public = STANDARD.decode(tag(dns_txt, "p")).unwrap();
    let verified = match tag(&value, "a") {
        "rsa-sha256" => {
            UnparsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, &public).verify(&data, &signature)
        }
        "ed25519-sha256" => {
            let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &data);
            UnparsedPublicKey::new(&ED25519, &public).verify(hash.as_ref(), &signature)
        }
        other => return Err(format!("a={other}")),
    };
    verified.map_err(|_| "signature".to_owned())
}

fn signer(domain: &str, selector: &str, made: &Generated) -> Signer {
    let key = SigningKey::from_pem(made.private_key_pem.expose().as_bytes()).unwrap();
    assert_eq!(key.dns_txt().unwrap(), made.dns_txt);
    Signer::new(&Domain::parse(domain).unwrap(), selector, key).unwrap()
}

const HEADER: &str = "Received: from x\r\nFrom: =?utf-8?Q?Gr=C3=BC=C3=9Fe?= \r\n <news@shop.example.com>\r\nTo: a@example.net\r\n\
    Subject:  two  words\t \r\nList-Unsubscribe: <https://shop.example.com/u?a=b>\r\nDate: Mon, 23 Nov 2026 06:24:00 +0000\r\n\r\n";

#[test]
fn the_signatures_of_rfc_8463_hold() {
    assert_eq!(verify(RFC_8463.as_bytes(), 0, RFC_8463_ED25519), Ok(()));
    assert_eq!(verify(RFC_8463.as_bytes(), 1, RFC_8463_RSA), Ok(()));
    let changed = RFC_8463.replace("dinner", "supper");
    assert_eq!(verify(changed.as_bytes(), 0, RFC_8463_ED25519), Err("signature".to_owned()));
    let changed = RFC_8463.replace("hungry", "thirsty");
    assert_eq!(verify(changed.as_bytes(), 1, RFC_8463_RSA), Err("body hash".to_owned()));
}

#[test]
fn the_key_of_rfc_8463_is_read() {
    // Appendix A.2 gives the seed; this is PKCS#8 version 1 around it, without the public key, as OpenSSL writes it.
    let seed = STANDARD.decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=").unwrap();
    let der = [b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".as_slice(), &seed].concat();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der));
    assert_eq!(SigningKey::from_pem(pem.as_bytes()).unwrap().dns_txt().unwrap(), RFC_8463_ED25519);
}

#[test]
fn each_signature_verifies_alone_for_every_kind_of_body() {
    let (rsa, ed) = (generate(Algorithm::Rsa2048).unwrap(), generate(Algorithm::Ed25519).unwrap());
    let set = SignerSet::new([signer("example.com", "pr1", &rsa), signer("example.com", "pr2", &ed)]);
    for body in [b"".as_slice(), b"\r\n\r\n", b"x\r\n \r\n\r\n", b".\r\n..\r\n", b"\xe4\xff\r\n", b"no line end"] {
        let block =
            set.signatures(HEADER.as_bytes(), &BodyHash::of(body), Timestamp::from_seconds(1_795_415_040)).unwrap();
        let mail = [block.as_slice(), HEADER.as_bytes(), body].concat();
        for line in block.split(|b| *b == b'\n') {
            assert!(line.len() <= 79, "{}", String::from_utf8_lossy(line));
        }
        assert_eq!(verify(&mail, 0, &rsa.dns_txt), Ok(()));
        assert_eq!(verify(&mail, 1, &ed.dns_txt), Ok(()));
        let second = fields(&mail).next().unwrap().raw().len();
        assert_eq!(verify(&mail[second..], 0, &ed.dns_txt), Ok(()), "the second without the first");
        for (spoil, at) in [("From: evil@x\r\n", 0), ("Cc: evil@x\r\n", 0), ("Subject: other\r\n", 0)] {
            let spoilt = [&mail[..at], spoil.as_bytes(), &mail[at..]].concat();
            assert_eq!(verify(&spoilt, 0, &rsa.dns_txt), Err("signature".to_owned()), "{spoil}");
            assert_eq!(verify(&spoilt, 1, &ed.dns_txt), Err("signature".to_owned()), "{spoil}");
        }
    }
}

#[test]
fn the_field_says_what_it_must_and_never_l() {
    let made = generate(Algorithm::Ed25519).unwrap();
    let signer = signer("example.com", "pr1", &made).expiring_after(std::time::Duration::from_secs(60));
    let field = signer.sign(HEADER.as_bytes(), &[0; 32], Timestamp::from_seconds(1_000)).unwrap();
    let text = String::from_utf8(field).unwrap();
    let value = text.strip_prefix("DKIM-Signature:").unwrap();
    assert_eq!(tag(value, "c"), "relaxed/relaxed");
    assert_eq!(
        (tag(value, "d"), tag(value, "s"), tag(value, "t"), tag(value, "x")),
        ("example.com", "pr1", "1000", "1060")
    );
    assert_eq!(
        packed(tag(value, "h")),
        "from:from:to:to:cc:subject:subject:reply-to:date:date:list-unsubscribe:list-unsubscribe"
    );
    assert!(!value.contains("l="), "{value}");
    assert!(text.ends_with("\r\n") && fields(text.as_bytes()).count() == 1);
    let again = signer.sign(HEADER.as_bytes(), &[0; 32], Timestamp::from_seconds(1_000)).unwrap();
    assert_eq!(again, text.as_bytes(), "Ed25519 is deterministic");
}

#[test]
fn the_nearest_domain_signs() {
    let made = generate(Algorithm::Ed25519).unwrap();
    let set = SignerSet::new([signer("example.com", "top", &made), signer("eu.example.com", "near", &made)]);
    let selector = |author: &str| set.signers(&Domain::parse(author).unwrap()).first().map(|s| s.selector().to_owned());
    assert_eq!(selector("example.com").as_deref(), Some("top"));
    assert_eq!(selector("shop.example.com").as_deref(), Some("top"));
    assert_eq!(selector("a.eu.example.com").as_deref(), Some("near"));
    for author in ["com", "notexample.com", "example.com.evil.example", "[192.0.2.1]"] {
        assert_eq!(selector(author), None, "{author}");
    }
    assert!(set.applies(&[Domain::parse("x.example").unwrap(), Domain::parse("example.com").unwrap()]));
    let block =
        |from: &str| set.signatures(format!("From: {from}\r\n\r\n").as_bytes(), &[0; 32], Timestamp(0)).unwrap();
    assert_eq!(fields(&block("a@example.com, b@shop.example.com, c@eu.example.com")).count(), 2);
    assert!(block("a@example.org").is_empty());
    assert!(block("nobody").is_empty());
    assert!(SignerSet::default().signatures(b"", &[0; 32], Timestamp(0)).unwrap().is_empty());
}

#[test]
fn names_that_cannot_sign_are_refused() {
    let made = generate(Algorithm::Ed25519).unwrap();
    let key = || SigningKey::from_pem(made.private_key_pem.expose().as_bytes()).unwrap();
    let of = |domain: &str, selector: &str| {
        Signer::new(&Domain::parse(domain).unwrap(), selector, key()).map(|s| s.domain().to_string())
    };
    assert_eq!(of("例子.公司", "pr1").as_deref(), Ok("xn--fsqu00a.xn--55qx5d"));
    assert_eq!(of("[192.0.2.1]", "pr1"), Err(KeyError::BadDomain));
    for selector in ["", "a b", "a;b", "[192.0.2.1]", "a\r\nb"] {
        assert_eq!(of("example.com", selector), Err(KeyError::BadSelector), "{selector}");
    }
}

#[test]
fn keys_are_read_in_every_form_and_the_others_explained() {
    let made = generate(Algorithm::Rsa2048).unwrap();
    let pem = made.private_key_pem.expose();
    // PKCS#8 is PKCS#1 behind 26 bytes of wrapping, for this size of key.
    let der = rustls_pki_types::PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let pkcs1 = STANDARD.encode(&der.secret_pkcs8_der()[26..]);
    let pkcs1 = format!("-----BEGIN RSA PRIVATE KEY-----\n{pkcs1}\n-----END RSA PRIVATE KEY-----\n");
    let key = SigningKey::from_pem(pkcs1.as_bytes()).unwrap();
    assert_eq!(key.dns_txt().unwrap(), made.dns_txt);
    assert_eq!(format!("{key:?}"), "SigningKey(rsa-sha256)");
    assert!(!format!("{made:?}").contains(&pem[40..80]));

    let strings = made.dns_strings();
    assert_eq!(strings.concat(), made.dns_txt);
    assert!(strings.len() == 2 && strings.iter().all(|s| s.len() <= 255), "{strings:?}");

    let read = |pem: &str| SigningKey::from_pem(pem.as_bytes()).map(|_| ()).unwrap_err();
    assert_eq!(read(""), KeyError::NotPem);
    assert_eq!(
        read("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"),
        KeyError::Encrypted
    );
    assert_eq!(read("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), KeyError::Unsupported);
    assert_eq!(read("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"), KeyError::Unsupported);
    assert_eq!(read(RFC_6376_KEY), KeyError::TooSmall);
}

/// The 1,024-bit sample key printed in RFC 6376 appendix C.
const RFC_6376_KEY: &str = "-----BEGIN RSA PRIVATE KEY-----
MIICXwIBAAKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFC
jxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gb
to/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB
AoGBALmn+XwWk7akvkUlqb+dOxyLB9i5VBVfje89Teolwc9YJT36BGN/l4e0l6QX
/1//6DWUTB3KI6wFcm7TWJcxbS0tcKZX7FsJvUz1SbQnkS54DJck1EZO/BLa5ckJ
gAYIaqlA9C0ZwM6i58lLlPadX/rtHb7pWzeNcZHjKrjM461ZAkEA+itss2nRlmyO
n1/5yDyCluST4dQfO8kAB3toSEVc7DeFeDhnC1mZdjASZNvdHS4gbLIA1hUGEF9m
3hKsGUMMPwJBAPW5v/U+AWTADFCS22t72NUurgzeAbzb1HWMqO4y4+9Hpjk5wvL/
eVYizyuce3/fGke7aRYw/ADKygMJdW8H/OcCQQDz5OQb4j2QDpPZc0Nc4QlbvMsj
7p7otWRO5xRa6SzXqqV3+F0VpqvDmshEBkoCydaYwc2o6WQ5EBmExeV8124XAkEA
qZzGsIxVP+sEVRWZmW6KNFSdVUpk3qzK0Tz/WjQMe5z0UunY9Ax9/4PVhp/j61bf
eAYXunajbBSOLlx4D+TunwJBANkPI5S9iylsbLs6NkaMHV6k5ioHBBmgCak95JGX
GMot/L2x0IYyMLAz6oLWh2hm7zwtb0CgOrPo1ke44hFYnfc=
-----END RSA PRIVATE KEY-----
";
