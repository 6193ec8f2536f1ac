//! Real-looking replies, provider by provider, and what the shipped table makes of them.

use bytes::BytesMut;

use super::*;
use crate::wire::smtp::client::ReplyParser;

/// The stage, the reply as it comes over the wire (lines parted by `|`), and row, class, action, whom it blames.
type Case = (Stage, &'static str, &'static str);

use Stage::{Connect, EndOfData as End, Mail, Recipient as Rcpt};

const GMAIL: &[Case] = &[
    (
        End,
        "421-4.7.28 Gmail has detected an unusual rate of unsolicited mail originating|421 4.7.28 from your IP Netblock.",
        "gmail-rate-ip rate-ip retry source",
    ),
    (
        End,
        "421-4.7.28 Gmail has detected an unusual rate of mail from your DKIM|421 4.7.28 domain [example.com 36].",
        "gmail-rate-domain rate-domain retry sender-domain",
    ),
    (
        End,
        "421 4.7.28 an unusual rate containing one of your URL domains",
        "gmail-rate-domain rate-domain retry sender-domain",
    ),
    (End, "421 4.7.28 many messages with the same Message-ID", "gmail-duplicate-ids config retry sender-domain"),
    (
        End,
        "421-4.7.0 suspicious due to the very low reputation of the sending|421 4.7.0 IP address.",
        "gmail-reputation-ip reputation retry source",
    ),
    (
        End,
        "421-4.7.0 very low reputation of the sending domain.|421 4.7.0 x",
        "gmail-reputation-domain reputation retry sender-domain",
    ),
    (Connect, "421 4.7.0 Try again later, closing connection. (EHLO)", "gmail-closing rate-ip retry source"),
    (
        End,
        "421 4.7.26 This mail has been rate limited because it is unauthenticated.",
        "gmail-unauthenticated auth retry sender-domain",
    ),
    (
        End,
        "550 5.7.26 Unauthenticated email is not accepted due to DMARC policy.",
        "gmail-unauthenticated auth retry sender-domain",
    ),
    (End, "550 5.7.27 SPF did not pass", "gmail-spf auth retry sender-domain"),
    (End, "421 4.7.30 DKIM did not pass", "gmail-dkim auth retry sender-domain"),
    (End, "421 4.7.32 From is not aligned", "gmail-alignment auth retry sender-domain"),
    (Connect, "421 4.7.23 no PTR record", "gmail-ptr config-ip retry-elsewhere source"),
    (End, "550 5.7.25 no PTR record", "gmail-ptr config-ip retry-elsewhere source"),
    (Mail, "550 5.7.29 not sent over TLS", "gmail-tls config retry host"),
    (Rcpt, "450 4.2.1 The user is receiving mail too quickly.", "gmail-recipient-rate recipient-rate retry recipient"),
    (
        Rcpt,
        "450-4.2.1 is receiving mail at a rate that|450 4.2.1 prevents more",
        "gmail-recipient-rate recipient-rate retry recipient",
    ),
    (Rcpt, "452 4.2.2 out of storage space", "gmail-full-for-now recipient-full retry recipient"),
    (Rcpt, "552 5.2.2 out of storage space", "gmail-full recipient-full bounce recipient"),
    (
        Rcpt,
        "550 5.1.1 The email account that you tried to reach does not exist.",
        "gmail-recipient-bad recipient-bad suppress recipient",
    ),
    (Rcpt, "550 5.2.1 The email account is inactive.", "gmail-recipient-bad recipient-bad suppress recipient"),
    (End, "550 5.7.1 this message is likely unsolicited mail", "gmail-unsolicited content bounce campaign"),
    (End, "550 5.7.28 an unusual rate of unsolicited mail", "gmail-rate-refused reputation bounce campaign"),
    (End, "550 5.7.1 not RFC 5322 compliant: duplicate headers", "gmail-malformed message bounce message"),
    (End, "552 5.7.0 blocked because its content presents a security issue", "gmail-harmful message bounce message"),
    (End, "552 5.2.3 exceeded size limits", "gmail-too-large message bounce message"),
    (Mail, "552 5.3.4 exceeded size limits", "gmail-too-large message bounce message"),
];

const YAHOO: &[Case] = &[
    (Mail, "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred", "yahoo-tss04 reputation retry source"),
    (Mail, "421 4.7.0 [TSS05] temporarily deferred", "yahoo-tss05 reputation retry source"),
    (Mail, "421 4.7.0 [IPTS05] temporarily deferred", "yahoo-tss05 reputation retry source"),
    (Mail, "421 4.7.0 [TS01] temporarily deferred due to user complaints", "yahoo-ts01 complaints retry source"),
    (Mail, "421 4.7.0 [TS02] temporarily deferred", "yahoo-ts02 rate-ip retry source"),
    (Mail, "421 4.7.0 [TS03] temporarily deferred", "yahoo-ts03 rate-ip retry source"),
    (Connect, "553 5.7.2 [TSS09] All messages permanently deferred", "yahoo-tss09 block-ip retry-elsewhere source"),
    (Mail, "553 5.7.2 [TSS11] All messages permanently deferred", "yahoo-tss09 block-ip retry-elsewhere source"),
    (
        Mail,
        "421 Max message per connection reached, closing transmission channel",
        "yahoo-per-connection limit retry connection",
    ),
    (Connect, "553 5.7.1 [BL21] Connections not accepted", "yahoo-block-list block-ip retry-elsewhere source"),
    (Connect, "553 5.7.1 [BL23] Connections not accepted", "yahoo-block-list block-ip retry-elsewhere source"),
    (
        End,
        "550 5.7.9 This mail has been blocked because the sender is unauthenticated",
        "yahoo-unauthenticated auth retry sender-domain",
    ),
    (End, "554 5.7.5 (AU01) Message not accepted for policy reasons", "yahoo-au01 auth retry sender-domain"),
    (
        End,
        "554 Message not allowed - [PH01] Email not accepted for policy reasons",
        "yahoo-ph01 content bounce campaign",
    ),
    (End, "554 5.7.9 Message not accepted for policy reasons", "yahoo-policy content bounce campaign"),
    (
        Rcpt,
        "554 delivery error: dd This user doesn't have a yahoo.com account",
        "yahoo-recipient-bad recipient-bad suppress recipient",
    ),
    // Its answer to the end of the data: an address is not suppressed for that.
    (End, "554 delivery error: dd No account", "yahoo-recipient-bad recipient-bad bounce recipient"),
    (
        Rcpt,
        "552 1 Requested mail action aborted, mailbox not found",
        "yahoo-recipient-bad recipient-bad suppress recipient",
    ),
    (
        Mail,
        "451 Message temporarily deferred due to unresolvable RFC.5321 from domain",
        "yahoo-return-path config retry sender-domain",
    ),
];

const YAHOO_JAPAN: &[Case] =
    &[(Connect, "553 VS98-IP0 Deferred (see the FAQ)", "yahoo-japan-deferred rate-ip retry source")];

const OUTLOOK: &[Case] = &[
    (Mail, "421 RP-001 The mail server IP exceeded the rate limit allowed.", "outlook-rate rate-ip retry source"),
    (Mail, "421 RP-003 connection limit", "outlook-rate rate-ip retry source"),
    (
        Mail,
        "451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited (S775)",
        "outlook-reputation reputation retry source",
    ),
    (Mail, "451 4.7.500 Server busy. Please try again later (AS761)", "outlook-busy capacity retry site"),
    (Mail, "451 4.7.700 PFA agent busy", "outlook-busy capacity retry site"),
    (Mail, "451 4.7.851 Access denied, please try again later", "outlook-denied reputation retry source"),
    (Mail, "451 4.7.550 Access denied, please try again later", "outlook-denied reputation retry source"),
    (
        Mail,
        "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Part of their network is on our block list (S3150).",
        "outlook-block-list block-ip retry-elsewhere source",
    ),
    (Mail, "550 5.7.1 messages weren't sent (S3140)", "outlook-block-list block-ip retry-elsewhere source"),
    (Connect, "550 SC-001 Mail rejected for policy reasons", "outlook-blocked block-ip retry-elsewhere source"),
    (Mail, "550 SC-002 Mail rejected", "outlook-blocked block-ip retry-elsewhere source"),
    (Mail, "550 OU-001 Mail rejected", "outlook-blocked block-ip retry-elsewhere source"),
    (Mail, "550 DY-001 you are trying to connect from a dynamic IP", "outlook-dynamic block-ip retry-elsewhere source"),
    (End, "550 OU-002 Mail rejected for content", "outlook-content content bounce campaign"),
    (End, "550 SC-004 Mail rejected after a complaint", "outlook-content content bounce campaign"),
    (
        End,
        "550 5.7.515 Access denied, sending domain does not meet the required authentication level",
        "outlook-unauthenticated auth retry sender-domain",
    ),
    (Connect, "421 exceeded the maximum number of connections (IB007)", "outlook-connections limit retry source"),
    (
        Rcpt,
        "550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302).",
        "outlook-recipient-bad recipient-bad suppress recipient",
    ),
];

const OFFICE365: &[Case] = &[
    (
        Mail,
        "550 5.7.606 Access denied, banned sending IP [192.0.2.1]",
        "office365-banned block-ip retry-elsewhere source",
    ),
    (Mail, "550 5.7.649 Access denied, banned sending IP", "office365-banned block-ip retry-elsewhere source"),
    (Mail, "550 5.7.511 Access denied, banned sender", "office365-banned block-ip retry-elsewhere source"),
    (
        Rcpt,
        "550 5.4.1 Recipient address rejected: Access denied.",
        "office365-recipient-denied recipient-bad suppress recipient",
    ),
    (Rcpt, "550 5.1.10 RESOLVER.ADR.RecipientNotFound", "office365-recipient-bad recipient-bad suppress recipient"),
    (
        End,
        "550 5.2.121 The recipient's hourly message receive limit has been exceeded",
        "office365-recipient-rate recipient-rate retry recipient",
    ),
    (Rcpt, "550 5.2.122 hourly limit", "office365-recipient-rate recipient-rate retry recipient"),
    (End, "550 5.7.509 Access denied, sending domain does not pass DMARC", "office365-dmarc auth retry sender-domain"),
    (End, "550 5.7.23 The message was rejected because of SPF violation", "office365-spf auth retry sender-domain"),
    (
        End,
        "550 5.7.512 Access denied, message must be RFC 5322 section 3.6.2 compliant",
        "office365-from message bounce message",
    ),
    (Mail, "550 5.7.508 Access denied, limit for IPv6 exceeded", "office365-ipv6 config-ip retry-elsewhere source"),
    (Connect, "550 5.7.25 the IPv6 address has no PTR record", "office365-ipv6 config-ip retry-elsewhere source"),
];

const ICLOUD: &[Case] = &[
    (
        Rcpt,
        "421 4.7.1 Messages to lin@icloud.com deferred due to excessive volume.",
        "icloud-recipient-rate recipient-rate retry recipient",
    ),
    (Mail, "451 4.7.1 Service unavailable - try again later", "icloud-busy capacity retry site"),
    (End, "451 4.7.1 [BS02] try later", "icloud-busy capacity retry site"),
    (Connect, "421 [HCM1] too busy", "icloud-busy capacity retry site"),
    (End, "550 5.7.1 [CS01] Message rejected due to local policy.", "icloud-content content bounce campaign"),
    (End, "554 5.7.1 [CS02] Message rejected", "icloud-content content bounce campaign"),
    (End, "554 5.7.1 [HM08] Message rejected due to local policy", "icloud-content content bounce campaign"),
    (End, "554 5.7.1 [HME1] not authorised", "icloud-dmarc auth retry sender-domain"),
    (End, "554 5.7.1 rejected due to the DMARC policy of the From domain", "icloud-dmarc auth retry sender-domain"),
    (End, "550 5.7.1 listed by Spamhaus DBL", "icloud-block-domain block-domain bounce campaign"),
    (
        Mail,
        "550 5.7.0 Blocked - see https://ipcheck.proofpoint.com/",
        "icloud-block-ip block-ip retry-elsewhere source",
    ),
    (Rcpt, "550 5.1.1 inactive", "icloud-recipient-bad recipient-bad suppress recipient"),
    (Rcpt, "550 5.1.6 recipient no longer on server", "icloud-recipient-bad recipient-bad suppress recipient"),
    (Rcpt, "552 5.2.2 over quota", "icloud-full recipient-full bounce recipient"),
];

const COMCAST: &[Case] = &[
    (Connect, "421 too many sessions opened from 192.0.2.1", "comcast-connections limit retry source"),
    (Mail, "421 192.0.2.1 throttled: RL000001", "comcast-rate-ip rate-ip retry source"),
    (Mail, "421 domain throttled RL000010", "comcast-rate-domain rate-domain retry sender-domain"),
    (Connect, "554 192.0.2.1 found on a block list BL000010", "comcast-block-list block-ip retry-elsewhere source"),
    (Mail, "554 BL000000 spam pattern", "comcast-block-list block-ip retry-elsewhere source"),
    (Connect, "554 dynamic address ES000001", "comcast-dynamic block-ip retry-elsewhere source"),
    (Rcpt, "550 5.1.1 Not our Customer", "comcast-recipient-bad recipient-bad suppress recipient"),
    (Rcpt, "550 Account Closed", "comcast-recipient-bad recipient-bad suppress recipient"),
];

const SPECTRUM: &[Case] = &[
    (Connect, "554 blocked. AUP#1000", "spectrum-block block-ip retry-elsewhere source"),
    (Connect, "554 blocked. AUP#In-1250", "spectrum-block block-ip retry-elsewhere source"),
    (Connect, "554 no PTR. AUP#1130", "spectrum-ptr config-ip retry-elsewhere source"),
    (Connect, "421 connections. AUP#1310", "spectrum-connections limit retry source"),
    (Mail, "421 volume. AUP#1350", "spectrum-volume rate-ip retry source"),
    (Mail, "452 volume. AUP#In-1490", "spectrum-volume rate-ip retry source"),
];

const GMX: &[Case] = &[
    (
        Connect,
        "554-web.de (mxweb103) Nemesis ESMTP Service not available|554-No SMTP service|554 IP address is block listed.",
        "gmx-block-list block-ip retry-elsewhere source",
    ),
    (Mail, "421 Rate limit reached. Please try again later.", "gmx-rate rate-ip retry source"),
    (Connect, "421 Too many connections", "gmx-rate rate-ip retry source"),
    (Mail, "450 Requested mail action not taken: policy violations", "gmx-list-quality list-quality retry source"),
    (End, "550 Transaction failed: policy restrictions", "gmx-content content bounce campaign"),
    (Mail, "550 Rejected by the SPF policy of the sender's domain", "gmx-spf auth retry sender-domain"),
    (Rcpt, "550 Requested action not taken: mailbox unavailable", "gmx-recipient-bad recipient-bad suppress recipient"),
];

const T_ONLINE: &[Case] = &[(
    Connect,
    "554 IP=192.0.2.1 - A problem occurred. (Ask your postmaster for help or to contact tosa@rx.t-online.de.) (BL)",
    "t-online-blocked block-ip retry-elsewhere source",
)];

const ORANGE: &[Case] = &[
    (
        Connect,
        "421 opmta Trop de connexions. Too many connections, slow down. OFR005_104 [104]",
        "orange-connections limit retry source",
    ),
    (Connect, "550 blocked OFR006_102", "orange-block block-ip retry-elsewhere source"),
    (Mail, "550 blocked OFR006_103", "orange-block block-ip retry-elsewhere source"),
    (End, "550 spam OFR_506 [506]", "orange-content content bounce campaign"),
    (Mail, "421 Service refuse. Try later. OFR005_505", "orange-later capacity retry site"),
    (
        Rcpt,
        "550 5.1.1 Adresse d au moins un destinataire invalide. Invalid recipient. OFR_416 [416]",
        "orange-recipient-bad recipient-bad suppress recipient",
    ),
    (
        Rcpt,
        "550 5.2.2 Boite du destinataire pleine. Recipient overquota. OFR_417 [417]",
        "orange-full recipient-full bounce recipient",
    ),
];

const LAPOSTE: &[Case] = &[
    (Rcpt, "550 5.1.1 invalide LPN416", "laposte-recipient-bad recipient-bad suppress recipient"),
    (Rcpt, "550 5.2.1 LPN007_426 user blocked", "laposte-recipient-bad recipient-bad suppress recipient"),
    (Rcpt, "552 5.2.2 OFR_417", "laposte-full recipient-full bounce recipient"),
];

const FREE: &[Case] = &[
    (End, "550 spam detected", "free-content content bounce campaign"),
    (Connect, "554 too bad, come back tomorrow", "free-refused block-ip retry-elsewhere source"),
];

const SFR: &[Case] = &[(Mail, "450 4.7.1 Client host rejected: SFR_IN_101", "sfr-reputation reputation retry source")];

const QQ: &[Case] = &[
    (Mail, "550 Ip frequency limited. http://service.mail.qq.com/detail/122/172", "qq-rate-ip rate-ip retry source"),
    (Rcpt, "550 Connection frequency limited", "qq-rate-ip rate-ip retry source"),
    (Mail, "550 Sender frequency limited", "qq-rate-domain rate-domain retry sender-domain"),
    (Mail, "550 Domain frequency limited", "qq-rate-domain rate-domain retry sender-domain"),
    (Rcpt, "550 Mailbox unavailable or access denied", "qq-recipient-rate recipient-rate retry recipient"),
    (End, "550 Mail content denied", "qq-content content bounce campaign"),
    (End, "550 Message was considered suspected spam", "qq-content content bounce campaign"),
    (End, "550 SPF check failed", "qq-auth auth retry sender-domain"),
    (End, "550 DMARC check failed", "qq-auth auth retry sender-domain"),
    (Mail, "550 suspected spam ip", "qq-block-ip block-ip retry-elsewhere source"),
    (Connect, "550 Connection denied", "qq-block-ip block-ip retry-elsewhere source"),
    (Rcpt, "550 Mailbox not found. http://service.mail.qq.com", "qq-recipient-bad recipient-bad suppress recipient"),
    (Rcpt, "550 The recipient is a deactivated mailbox", "qq-recipient-bad recipient-bad suppress recipient"),
];

const NETEASE: &[Case] = &[
    (
        Connect,
        "421 HL:ICC 163 smtp10,Y8CowA 1 http://mail.163.com/help/help_spam_16.htm?ip=192.0.2.1",
        "netease-connections limit retry source",
    ),
    (Mail, "421 HL:IFC 163 smtp10", "netease-rate-ip rate-ip retry source"),
    (Mail, "554 HL:IFQ 126 smtp3", "netease-rate-ip rate-ip retry source"),
    (Mail, "554 HL:ITC 163 smtp5", "netease-day-ip rate-ip retry source"),
    (Mail, "554 MI:STC 163 smtp1", "netease-day-sender rate-sender retry sender-domain"),
    (Rcpt, "550 RP:QRC 163 smtp1", "netease-rate-sender rate-sender retry sender-domain"),
    (Rcpt, "550 RP:TRC 163 smtp1", "netease-day-sender rate-sender retry sender-domain"),
    (Connect, "421 HL:REP 163 smtp1", "netease-list-quality list-quality retry source"),
    (Connect, "421 HL:MEP 163 smtp1", "netease-list-quality list-quality retry source"),
    (Mail, "451 MI:SFQ 163 smtp1", "netease-quarter-hour rate-sender retry sender-domain"),
    (Mail, "554 MI:SFQ 163 smtp1", "netease-quarter-hour rate-sender retry sender-domain"),
    (Mail, "450 MI:DMC 163 smtp1", "netease-per-connection limit retry connection"),
    (Rcpt, "451 RP:DRC 163 smtp1", "netease-per-connection limit retry connection"),
    (End, "451 DT:SPM 163 smtp1", "netease-content-soft content retry message"),
    (End, "554 DT:SPM 163 smtp1", "netease-content content bounce campaign"),
    (End, "554 DT:SUM 163 smtp1", "netease-from auth bounce message"),
    (Mail, "550 MI:SPF 163 smtp1", "netease-auth auth retry sender-domain"),
    (Mail, "550 MI:DMA 163 smtp1", "netease-auth auth retry sender-domain"),
    (Mail, "550 MI:NHD 163 smtp1", "netease-nhd config retry sender-domain"),
    (Connect, "554 HL:IHU 163 smtp1", "netease-block-ip block-ip retry-elsewhere source"),
    (Connect, "554 HL:IPB 163 smtp1", "netease-block-ip block-ip retry-elsewhere source"),
    (Mail, "450 DT:RBL 163 smtp1", "netease-block-ip block-ip retry-elsewhere source"),
    (Rcpt, "550 Invalid User: lin@163.com", "netease-recipient-bad recipient-bad suppress recipient"),
    (Rcpt, "550 User suspended: lin@163.com", "netease-recipient-bad recipient-bad suppress recipient"),
];

const ALIYUN: &[Case] = &[
    (Mail, "454 Transient reject by behaviour spam at Mail-From", "aliyun-transient rate-ip retry source"),
    (Mail, "554 Reject by behaviour spam at Rcpt State", "aliyun-behaviour rate-ip retry source"),
    (End, "554 Reject by content spam at Data", "aliyun-content content bounce campaign"),
    (Rcpt, "504 too many recipients", "aliyun-recipients limit retry source"),
    (Rcpt, "505 too many recipients", "aliyun-recipients limit retry source"),
    (Rcpt, "553 Mailbox unavailable", "aliyun-recipient-bad recipient-bad suppress recipient"),
    (Rcpt, "552 no space", "aliyun-full recipient-full bounce recipient"),
];

const SINA: &[Case] = &[
    (
        Mail,
        "450 4.7.1 Client host rejected: cannot find your hostname, [192.0.2.1]",
        "sina-hostname config-ip retry source",
    ),
    (Stage::Hello, "550 EHLO rejected", "sina-hostname config-ip retry source"),
    (Connect, "550 black ip", "sina-block-ip block-ip retry-elsewhere source"),
    (Mail, "554 rbl deny", "sina-block-ip block-ip retry-elsewhere source"),
    (End, "552 too many same size mails", "sina-same-size content retry campaign"),
    (
        Rcpt,
        "550 Requested action not taken: mailbox unavailable",
        "sina-recipient-bad recipient-bad suppress recipient",
    ),
    (Rcpt, "550 user is locked", "sina-recipient-bad recipient-bad suppress recipient"),
];

const ANYBODY: &[Case] = &[
    (
        Rcpt,
        "450 4.2.0 Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch",
        "any-greylist greylist retry host",
    ),
    (
        Rcpt,
        "554 5.7.1 Service unavailable; Client host blocked using zen.spamhaus.org",
        "any-block-ip block-ip retry-elsewhere source",
    ),
    (End, "554 5.7.1 a URL in it is listed: dbl.spamhaus.org", "any-block-domain block-domain bounce campaign"),
    (Connect, "550 5.7.25 no PTR", "any-ptr config-ip retry-elsewhere source"),
    (Rcpt, "450 4.7.1 cannot find your reverse hostname", "any-hostname config-ip retry source"),
    (End, "550 5.7.26 multiple authentication checks failed", "any-auth auth retry sender-domain"),
    (Mail, "530 5.7.0 Must issue a STARTTLS command first", "any-tls config retry host"),
    (
        Rcpt,
        "550 5.1.7 Sender address rejected: undeliverable address: User unknown",
        "any-sender config bounce sender-domain",
    ),
    (Rcpt, "554 5.7.1 Relay access denied", "any-relay config bounce site"),
    (Connect, "421 Too many concurrent SMTP connections", "any-connections limit retry source"),
    (Mail, "421 too many messages in this session", "any-per-connection limit retry connection"),
    (Mail, "451 rate limit exceeded", "any-rate rate-ip retry source"),
    (Mail, "550 rate limit exceeded", "any-rate-refused rate-ip retry source"),
    (Rcpt, "452 4.2.2 full", "any-full-for-now recipient-full retry recipient"),
    (Rcpt, "552 5.2.2 full", "any-full recipient-full bounce recipient"),
    (Rcpt, "552 Mailbox is full", "any-over-quota recipient-full bounce recipient"),
    (Rcpt, "550 5.1.1 no", "any-recipient-bad recipient-bad suppress recipient"),
    (Rcpt, "550 No such user here", "any-recipient-unknown recipient-bad suppress recipient"),
    (Mail, "452 4.3.1 Insufficient system storage", "any-storage capacity retry host"),
    (Mail, "552 5.3.4 too large", "any-too-large message bounce message"),
    (End, "554 5.4.6 too many hops", "any-loop message bounce message"),
    (End, "550 contains a virus", "any-harmful message bounce message"),
    (End, "550 this looks like spam to us", "any-content content bounce campaign"),
    (Mail, "550 no", "- none bounce -"),
    (Mail, "450 not now", "- none retry -"),
    (Connect, "554 no", "- none retry -"),
];

/// By whose host they are said.
const ALL: &[(&str, &[Case])] = &[
    ("gmail-smtp-in.l.google.com", GMAIL),
    ("aspmx2.googlemail.com", GMAIL),
    ("mta5.am0.yahoodns.net", YAHOO),
    ("mx1.mail.yahoo.co.jp", YAHOO_JAPAN),
    ("outlook-com.olc.protection.outlook.com", OUTLOOK),
    ("example-com.mail.protection.outlook.com", OFFICE365),
    ("example-com.k-v1.mx.microsoft", OFFICE365),
    ("mx01.mail.icloud.com", ICLOUD),
    ("mx1.comcast.net", COMCAST),
    ("mx0.charter.net", SPECTRUM),
    ("mx-ha03.web.de", GMX),
    ("mx00.t-online.de", T_ONLINE),
    ("smtp-in.orange.fr", ORANGE),
    ("smtpz4.laposte.net", LAPOSTE),
    ("mx1.free.fr", FREE),
    ("smtp-in.sfr.fr", SFR),
    ("mx3.qq.com", QQ),
    ("163mx01.mxmail.netease.com", NETEASE),
    ("mx2.mail.aliyun.com", ALIYUN),
    ("freemx1.sinamail.sina.com.cn", SINA),
    ("mx.example.net", ANYBODY),
];

/// A reply as it is read off the wire.
pub(super) fn heard(lines: &[u8]) -> Reply {
    let mut bytes = BytesMut::from(lines);
    bytes.extend_from_slice(b"\r\n");
    ReplyParser::new().next(&mut bytes).unwrap().unwrap()
}

/// Row, class, action, whom it blames.
pub(super) fn shown(judgement: &Judgement<'_>) -> String {
    let row = judgement.row.map_or("-", |row| &*row.rule.id);
    let blames = judgement.blames.map_or("-", Scope::as_str);
    format!("{row} {} {} {blames}", judgement.class(), judgement.action.as_str())
}

#[test]
fn every_known_reply_is_judged_as_we_mean_it() {
    let table = Table::shipped();
    let mut wrong = Vec::new();
    for (host, cases) in ALL {
        for (stage, lines, meaning) in *cases {
            let reply = heard(lines.replace('|', "\r\n").as_bytes());
            let found = shown(&table.provider_of(host).judge(&reply, *stage));
            if found != *meaning {
                wrong.push(format!("{host} {lines}\n  found    {found}\n  expected {meaning}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_row_has_a_reply_that_it_knows() {
    let known: Vec<&str> =
        ALL.iter().flat_map(|(_, cases)| *cases).filter_map(|(_, _, meaning)| meaning.split(' ').next()).collect();
    let table = Table::shipped();
    let mut unseen: Vec<&str> = table.providers().iter().flat_map(Provider::rows).map(|r| &*r.rule.id).collect();
    unseen.retain(|id| !known.contains(id));
    unseen.sort_unstable();
    unseen.dedup();
    // The same words as at Outlook.com, where each is tried.
    assert_eq!(unseen, ["office365-busy", "office365-denied"]);
}

#[test]
fn text_in_another_character_set_does_not_matter() {
    // "the mailbox" in GBK, and an accent in Latin-1.
    let reply = heard(b"550-\xd3\xca\xcf\xe4\r\n550 Ip FREQUENCY\r\n".trim_ascii_end());
    let table = Table::shipped();
    assert_eq!(table.provider_of("mx3.qq.com").judge(&reply, Stage::Mail).row, None);
    let reply = heard(b"550-\xd3\xca\xcf\xe4 Ip FREQUENCY\r\n550 limited \xe9t\xe9");
    let judged = shown(&table.provider_of("mx3.qq.com").judge(&reply, Stage::Mail));
    assert_eq!(judged, "qq-rate-ip rate-ip retry source");
}
