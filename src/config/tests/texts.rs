//! Wrong `[[carrier]]`, `[[sms_route]]`, `[[network]]` and `[[sending_hours]]` tables, and the exact words they get.

use super::{GOOD, check, good};
use crate::config::Config;
use crate::egress::sms::{Logins, LongTexts, Protocol, Tls};
use crate::model::{Class, Number};
use crate::sms::Alphabet;
use crate::wire::cmpp::Version;
use crate::wire::gateway::auth::NameForm;
use crate::wire::{smgp, smpp};

pub(super) const CARRIER: &str = "[[carrier]]\nname = \"cmcc-1\"\nprotocol = \"smpp\"\naddress = \"127.0.0.1:2775\"\nsystem_id = \"postrider\"\npassword_env = \"GOOD\"\n";

#[test]
fn carriers_and_text_routes_find_each_other() {
    let (config, warnings) =
        good(&format!("{GOOD}{CARRIER}[[sms_route]]\nprefixes = [\"+86\"]\ncarriers = [\"cmcc-1\"]\n"));
    assert_eq!(warnings, []);
    assert_eq!(config.carriers[0].password.expose(), "sesame");
    assert_eq!(config.carriers[0].rate.to_string(), "100/s");
    check(
        &format!("{CARRIER}[[sms_route]]\nprefixes = [\"+86\"]\ncarriers = [\"cmc-1\"]\n"),
        "relay.toml:17: sms_route[0].carriers[0]: unknown carrier \"cmc-1\"; did you mean \"cmcc-1\"? (one of cmcc-1)",
    );
    check(
        &CARRIER.replace("\"GOOD\"", "\"BAD\""),
        "relay.toml:14: carrier[0].password_env: environment variable BAD is not set; set it in the environment of the relay, and of check",
    );
    check(
        &format!("{CARRIER}password_file = \"x\"\n"),
        "relay.toml:14: carrier[0].password_env: password_file and password_env stand together; keep one of them",
    );
    check(
        &format!("{CARRIER}{CARRIER}"),
        "relay.toml:16: carrier[1].name: the name \"cmcc-1\" is taken (carrier[0].name); give each carrier its own name",
    );
    assert!(super::warnings(CARRIER).starts_with("relay.toml:10: carrier[0].name: no [[sms_route]] leads to"));
}

#[test]
fn a_carrier_that_speaks_smgp_has_keys_of_its_own() {
    let smgp = format!("{}from = \"10690001\"\n", CARRIER.replace("smpp", "smgp").replace("postrider", "12345678"));
    let (config, _) = good(&format!("{GOOD}{smgp}"));
    let carrier = &config.carriers[0];
    let Protocol::Smgp(account) = &carrier.protocol else { panic!("{carrier:?}") };
    assert_eq!((account.version, account.logins, account.fee_type.as_str()), (smgp::Version::V30, Logins::Both, "00"));
    assert_eq!((carrier.enquire_interval.as_secs(), carrier.response_timeout.as_secs()), (180, 60));
    let keys = "smgp_version = \"1.3\"\nlogin_mode = \"split\"\nbinds = 2\nsystem_id_padded = true\n";
    let (config, _) = good(&format!("{GOOD}{smgp}{keys}"));
    let Protocol::Smgp(account) = &config.carriers[0].protocol else { panic!("{config:?}") };
    assert_eq!((account.version, account.logins), (smgp::Version::V13, Logins::Split { receivers: 1 }));
    assert_eq!(account.name_form, NameForm::Padded);
    check(
        &format!("{smgp}login_mode = \"split\"\nsmgp_version = \"2.0\"\n"),
        "relay.toml:16: carrier[0].login_mode: one bind cannot both send and receive by logins of their own; \
         set binds = 2, or more for more that send\n\
         relay.toml:17: carrier[0].smgp_version: unknown value \"2.0\"; did you mean \"3.0\"? (one of 3.0, 1.3)",
    );
    check(
        &format!("{}msg_src = \"x\"\n", smgp.replace("12345678", "123456789").replace("10690001", "Shop")),
        "relay.toml:13: carrier[0].system_id: \"123456789\" does not fit; expected at most 8 printable ASCII characters\n\
         relay.toml:15: carrier[0].from: SMGP shows no names; write the access number, such as \"10690001\"\n\
         relay.toml:16: carrier[0].msg_src: only CMPP knows msg_src, and this carrier speaks another protocol; \
          remove it, or set protocol = \"cmpp2\" or \"cmpp3\"",
    );
    let cmpp = CARRIER.replace("smpp", "cmpp3").replace("postrider", "900001");
    check(
        &format!("{cmpp}from = \"10690001\"\nlogin_mode = \"both\"\n"),
        "relay.toml:16: carrier[0].login_mode: only SMPP and SMGP know login_mode, and this carrier speaks another protocol; \
         remove it, or set protocol = \"smpp\" or \"smgp\"",
    );
    let (config, _) = good(&format!("{GOOD}{CARRIER}login_mode = \"split\"\nbinds = 2\n"));
    let Protocol::Smpp(account) = &config.carriers[0].protocol else { panic!("{config:?}") };
    assert_eq!(account.logins, Logins::Split { receivers: 1 });
}

#[test]
fn a_carrier_that_speaks_smpp_says_who_receives_and_how_long_texts_travel() {
    let smpp = |keys: &str| {
        let (config, warnings) = good(&format!("{GOOD}{CARRIER}{keys}"));
        let Protocol::Smpp(account) = &config.carriers[0].protocol else { panic!("{config:?}") };
        (account.clone(), warnings)
    };
    let (account, _) = smpp("");
    assert_eq!((account.version, account.long_texts), (smpp::Version::V34, LongTexts::Udh));
    let (account, _) = smpp("smpp_version = \"5.0\"\nlong_texts = \"sar\"\ndefault_alphabet = \"latin1\"\n");
    let told = (account.version, account.long_texts, account.repertoire.default);
    assert_eq!(told, (smpp::Version::V50, LongTexts::Sar, Alphabet::Latin1));
    let (account, _) = smpp("login_mode = \"split\"\nbinds = 5\nreceive_binds = 2\nlong_texts = \"payload\"\n");
    assert_eq!((account.logins, account.long_texts), (Logins::Split { receivers: 2 }, LongTexts::Payload));
    check(
        &format!("{CARRIER}national = [\"turkish\"]\nlong_texts = \"payload\"\n"),
        "relay.toml:15: carrier[0].national: the carrier is not given headers (long_texts); \
         take one of them away, or have long_texts = \"udh\": the tables are named in headers",
    );
    check(
        &format!("{CARRIER}national = [\"turkish\"]\ndefault_alphabet = \"latin1\"\n"),
        "relay.toml:15: carrier[0].national: the carrier is not given septets (default_alphabet); \
         take one of them away, or have default_alphabet = \"gsm7\"",
    );
    check(
        &format!("{CARRIER}login_mode = \"split\"\nbinds = 2\nreceive_binds = 2\n"),
        "relay.toml:17: carrier[0].receive_binds: of 2 binds none would be left to send; set binds = 3, or more for more that send",
    );
    check(
        &format!("{CARRIER}receive_binds = 1\nlong_texts = \"udhi\"\n"),
        "relay.toml:15: carrier[0].receive_binds: no bind only receives; set login_mode = \"split\", or remove it\n\
         relay.toml:16: carrier[0].long_texts: unknown value \"udhi\"; did you mean \"udh\"? (one of udh, sar, payload)",
    );
    check(
        &format!(
            "{}from = \"10690001\"\nlong_texts = \"sar\"\n",
            CARRIER.replace("smpp", "smgp").replace("postrider", "12345678")
        ),
        "relay.toml:16: carrier[0].long_texts: only SMPP knows long_texts, and this carrier speaks another protocol; \
         remove it, or set protocol = \"smpp\"",
    );
}

#[test]
fn a_carrier_may_be_spoken_to_inside_tls() {
    let tls = |keys: &str| {
        let (config, warnings) = good(&format!("{GOOD}{CARRIER}{keys}"));
        (config.carriers[0].tls.clone(), warnings.iter().map(ToString::to_string).collect::<String>())
    };
    assert_eq!(tls("").0, None);
    assert_eq!(tls("tls = true\n").0, Some(Tls::default()));
    let (named, _) = tls("tls = true\ntls_name = \"smpp.example.com\"\n");
    assert_eq!(named.unwrap().name.as_deref(), Some("smpp.example.com"));
    let (open, said) = tls("tls = true\ntls_verify = false\n");
    assert!(!open.unwrap().verify && said.contains("tls_verify: any certificate is taken"), "{said}");
    check(
        &format!("{CARRIER}tls_verify = false\ntls_name = \"smpp.example.com\"\n"),
        "relay.toml:15: carrier[0].tls_verify: there is no TLS with this carrier; add tls = true, or remove it\n\
         relay.toml:16: carrier[0].tls_name: there is no TLS with this carrier; add tls = true, or remove it",
    );
    check(
        &format!("{CARRIER}tls = true\ntls_name = \"no name\"\n"),
        "relay.toml:16: carrier[0].tls_name: bad name \"no name\"; expected a host name such as \"smpp.example.com\", or an address",
    );
    check(
        &format!("{CARRIER}tls = true\ntls_verify = false\ntls_name = \"smpp.example.com\"\n"),
        "relay.toml:17: carrier[0].tls_name: no certificate is looked at; remove tls_verify = false, or remove it",
    );
    let cmpp = CARRIER.replace("smpp", "cmpp3").replace("postrider", "900001");
    check(
        &format!("{cmpp}from = \"10690001\"\ntls = true\n"),
        "relay.toml:16: carrier[0].tls: only SMPP knows tls, and this carrier speaks another protocol; \
         remove it, or set protocol = \"smpp\"",
    );
}

const SGIP: &str = "[[carrier]]\nname = \"sgip-1\"\nprotocol = \"sgip\"\naddress = \"127.0.0.1:8801\"\nsystem_id = \"postrider\"\npassword_env = \"GOOD\"\nfrom = \"10690001\"\narea_code = \"010\"\ncorp_id = \"12345\"\nlisten = \"0.0.0.0:8801\"\ncallback_from = [\"10.0.0.0/8\"]\n";

#[test]
fn a_carrier_that_speaks_sgip_has_a_node_and_is_come_to() {
    let (config, _) = good(&format!("{GOOD}{SGIP}"));
    let carrier = &config.carriers[0];
    let Protocol::Sgip(account) = &carrier.protocol else { panic!("{carrier:?}") };
    let callback = &account.callback;
    assert_eq!((account.corp_id.as_str(), account.fee_type, account.idle.as_secs()), ("12345", 1, 50));
    assert_eq!((callback.login.as_str(), callback.password.expose()), ("postrider", "sesame"), "the account's own");
    assert_eq!(config.callback_addresses(), ["0.0.0.0:8801".parse().unwrap()]);

    // Two gateways may come to one place, and say who they are.
    let second = SGIP.replace("sgip-1", "sgip-2");
    let other = format!("{second}callback_login = \"smg\"\ncallback_password = \"other\"\n");
    let (config, _) = good(&format!("{GOOD}{SGIP}{other}"));
    assert_eq!(config.callback_addresses().len(), 1);
    let callback = config.carriers[1].protocol.callback().unwrap();
    assert_eq!((callback.login.as_str(), callback.password.expose()), ("smg", "other"));
    check(
        &format!("{SGIP}{second}"),
        "relay.toml:24: carrier[1].system_id: another gateway comes to 0.0.0.0:8801 as \"postrider\" (carrier[0].system_id); \
         give each carrier its own callback_login, or its own listen",
    );
    let listener = "[admin]\naddress = \"0.0.0.0:8801\"\n";
    check(
        &format!("{listener}{SGIP}"),
        "relay.toml:20: carrier[0].listen: 0.0.0.0:8801 is taken (admin.address); give each its own address or port",
    );
    let without = |key: &str| {
        SGIP.lines().filter(|line| !line.starts_with(key)).map(|line| format!("{line}\n")).collect::<String>()
    };
    for (key, example) in [
        ("area_code", "\"010\""),
        ("corp_id", "\"12345\""),
        ("listen", "\"0.0.0.0:8801\""),
        ("callback_from", "[\"10.0.0.0/8\"]"),
    ] {
        check(&without(key), &format!("relay.toml:9: carrier[0].{key}: missing; add {key} = {example}"));
    }
    check(
        &SGIP.replace("\"010\"", "\"01000\"").replace("12345", "1234"),
        "relay.toml:16: carrier[0].area_code: bad number \"01000\"; expected 1 to 4 digits, in quotes\n\
         relay.toml:17: carrier[0].corp_id: bad number \"1234\"; expected 5 digits, in quotes",
    );
    check(
        &format!("{SGIP}fee_type = \"01\"\nenquire_interval = \"30s\"\ncallback_password = \"seventeen octets.\"\n"),
        "relay.toml:20: carrier[0].fee_type: \"01\" is no FeeType of SGIP; \
         write one digit: \"0\" or \"1\" free, \"2\" by the message, \"3\" by the month\n\
         relay.toml:21: carrier[0].enquire_interval: only SMPP, CMPP and SMGP know enquire_interval, and this carrier speaks \
         another protocol; remove it, or set protocol = \"smpp\", \"cmpp2\", \"cmpp3\" or \"smgp\"\n\
         relay.toml:22: carrier[0].callback_password: the password holds a NUL or is longer than 16 octets; SGIP cannot carry it",
    );
    check(
        &format!("{SGIP}callback_password = \"\"\n"),
        "relay.toml:20: carrier[0].callback_password: the password is empty; write what was agreed with the carrier",
    );
    check(
        &format!("{CARRIER}listen = \"0.0.0.0:8801\"\n"),
        "relay.toml:15: carrier[0].listen: only SGIP knows listen, and this carrier speaks another protocol; \
          remove it, or set protocol = \"sgip\"",
    );
}

#[test]
fn a_text_route_says_for_whom_it_is_and_names_what_there_is() {
    let route = |lines: &str| format!("{CARRIER}[[sms_route]]\n{lines}\ncarriers = [\"cmcc-1\"]\n");
    let own = "[[network]]\nname = \"china-unicom\"\nmcc_mnc = \"46009\"\nprefixes = [\"+8613800138000\"]\n";
    let lines = "networks = [\"46009\"]\nclasses = [\"otp\"]\nclients = [\"shop\"]\nweights = [1]";
    let (config, warnings) = good(&format!("{GOOD}{own}{}", route(lines)));
    assert_eq!(warnings, []);
    let course = |number: &str, class| {
        let number = Number::parse(number).unwrap();
        config.routes.text.course(&number, class, &"shop".into()).map(ToString::to_string)
    };
    assert_eq!(course("+8613800138000", Class::Otp).as_deref(), Some("cmcc-1:1"), "it moved there");
    assert_eq!(course("+8618600138000", Class::Otp).as_deref(), Some("cmcc-1:1"), "known without the file");
    assert_eq!((course("+8613800138001", Class::Otp), course("+8613800138000", Class::Marketing)), (None, None));
    for (lines, mistake) in [
        (
            "classes = [\"otp\"]",
            "relay.toml:15: sms_route[0].prefixes: the route says nothing of numbers; add prefixes = [\"+86138\"], or [\"+\"] for all, or networks = [\"china-mobile\"]",
        ),
        (
            "networks = [\"china-mobil\"]",
            "relay.toml:16: sms_route[0].networks[0]: unknown network \"china-mobil\"; did you mean \"china-mobile\"? (one of china-mobile, china-unicom, china-telecom, china-broadcast)",
        ),
        (
            "prefixes = [\"+\"]\nclients = [\"shp\"]",
            "relay.toml:17: sms_route[0].clients[0]: unknown client \"shp\"; did you mean \"shop\"? (one of shop)",
        ),
        (
            "prefixes = [\"+\"]\nweights = [1, 2]",
            "relay.toml:17: sms_route[0].weights: 2 weights for 1 carriers; write a number for each carrier, in their order, such as [95, 5]",
        ),
        (
            "prefixes = [\"+\"]\nweights = [0]",
            "relay.toml:17: sms_route[0].weights: no carrier weighs anything; write a number for each carrier, in their order, such as [95, 5]",
        ),
        (
            "prefixes = [\"+86\", \"+1\", \"+86\"]",
            "relay.toml:16: sms_route[0].prefixes[2]: \"+86\" has a route already (sms_route[0].prefixes[0]); name each once",
        ),
    ] {
        check(&route(lines), mistake);
    }
    check(
        "[[network]]\nname = \"own\"\nmcc_mnc = \"460\"\nprefixes = [\"+86\"]\n",
        "relay.toml:11: network[0].mcc_mnc: \"460\" is no MCC and MNC; write MCC and MNC together, five or six digits, such as \"46000\"",
    );
    check(
        "[[sending_hours]]\nprefixes = [\"+86\"]\nhours = \"8-20\"\n",
        "relay.toml:11: sending_hours[0].hours: \"8-20\" are no hours; write from, to and the distance from UTC, such as \"08:00-20:00 +08:00\"",
    );
    let hours = |config: &Config, class| {
        let number = Number::parse("+8613800138000").unwrap();
        config.routes.text.hours(&number, class).map(|h| h.to_string())
    };
    assert_eq!(hours(&config, Class::Marketing).as_deref(), Some("08:00-20:00 +08:00"), "without a word");
    assert_eq!(hours(&config, Class::Otp), None);
    let own = "[[sending_hours]]\nprefixes = [\"+86\"]\nhours = \"00:00-24:00 +08:00\"\n";
    assert_eq!(hours(&good(&format!("{GOOD}{own}")).0, Class::Marketing).as_deref(), Some("00:00-24:00 +08:00"));
    // The same beginning may have a route for each class.
    let two = ["otp", "marketing"]
        .map(|class| format!("[[sms_route]]\nprefixes = [\"+\"]\nclasses = [\"{class}\"]\ncarriers = [\"cmcc-1\"]\n"));
    assert_eq!(good(&format!("{GOOD}{CARRIER}{}", two.concat())).1, []);
}

#[test]
fn a_carrier_that_speaks_cmpp_has_keys_of_its_own() {
    let cmpp = CARRIER.replace("smpp", "cmpp2").replace("postrider", "900001");
    let (config, _) = good(&format!("{GOOD}{cmpp}from = \"10690001\"\nservice_id = \"SVC\"\n"));
    let carrier = &config.carriers[0];
    let Protocol::Cmpp(account) = &carrier.protocol else { panic!("{carrier:?}") };
    assert_eq!((account.version, account.service_id.as_str()), (Version::V2, "SVC"));
    assert_eq!((carrier.enquire_interval.as_secs(), carrier.response_timeout.as_secs()), (180, 60));
    check(&cmpp, "relay.toml:9: carrier[0].from: missing; add from = \"10690001\"");
    check(
        &format!("{}from = \"Shop\"\nsystem_type = \"x\"\n", cmpp.replace("900001", "9000001")),
        "relay.toml:13: carrier[0].system_id: \"9000001\" does not fit; expected at most 6 printable ASCII characters\n\
         relay.toml:15: carrier[0].from: CMPP shows no names; write the access number, such as \"10690001\"\n\
         relay.toml:16: carrier[0].system_type: only SMPP knows system_type, and this carrier speaks another protocol; \
          remove it, or set protocol = \"smpp\"",
    );
    check(
        &format!("{CARRIER}service_id = \"x\"\n"),
        "relay.toml:15: carrier[0].service_id: only CMPP, SMGP and SGIP know service_id, and this carrier speaks another protocol; \
          remove it, or set protocol = \"cmpp2\", \"cmpp3\", \"smgp\" or \"sgip\"",
    );
    check(
        &CARRIER.replace("smpp", "cmpp"),
        "relay.toml:11: carrier[0].protocol: CMPP has two versions that do not understand each other; \
         ask the carrier, and write \"cmpp2\" or \"cmpp3\"",
    );
}

#[test]
fn rules_for_texts_say_what_would_be_right() {
    for (more, mistake) in [
        (
            "[sms]\nblocked_words = [\"赌博\", \"--\"]\n",
            "relay.toml:10: sms.blocked_words: \"--\" holds neither a letter nor a digit; write words, each with a letter or a digit, at most 100,000",
        ),
        (
            "[sms]\nblocked_words_file = \"nowhere.txt\"\n",
            "relay.toml:10: sms.blocked_words_file: cannot read nowhere.txt: No such file or directory (os error 2); ",
        ),
        (
            "[[sms_cap]]\nprefixes = [\"+86\"]\nlimits = [\"1/s\"]\n",
            "relay.toml:11: sms_cap[0].limits[0]: bad rate \"1/s\"; expected a limit such as \"1/m\", \"5/h\" or \"10/d\"",
        ),
        (
            "[[sms_cap]]\nprefixes = [\"+86\"]\nlimits = []\n",
            "relay.toml:11: sms_cap[0].limits: empty; expected limits = [\"1/m\", \"5/h\", \"10/d\"]",
        ),
        (
            "[[client]]\nname = \"b\"\npassword_env = \"GOOD\"\nchannels = [\"sms\"]\nsignatures = [\"【小店】\"]\n",
            "signatures[0]: \"【小店】\" is no signature that carriers register; write 2 to 12 letters and digits, without 【】, not digits only, such as \"小店\"",
        ),
    ] {
        assert!(super::mistakes(more).contains(mistake), "{}\n--- for\n{more}", super::mistakes(more));
    }
    let own = "[[sms_cap]]\nprefixes = [\"+86\"]\nclasses = [\"otp\"]\nlimits = [\"3/d\"]\n";
    let caps = good(&format!("{GOOD}{own}")).0.texts.rules.caps;
    let limits: Vec<_> =
        caps.iter().map(|cap| cap.limits.iter().map(ToString::to_string).collect::<String>()).collect();
    assert_eq!(limits, ["3/d", "1/m5/h10/d", "50/d"], "the administrator's stand first and so win");
}
