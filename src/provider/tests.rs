//! Whose rows come first, what no row may do, and the exact words that mistakes get.

use proptest::prelude::*;

use super::replies::{heard, shown};
use super::*;

/// A small table without a mistake; what a test adds starts on line 6.
const GOOD: &str = r#"[[provider]]
name = "any"
[[provider]]
name = "alpha"
mx = ["alpha.example", "mx.beta.example"]
"#;

fn row(id: &str, provider: &str, rest: &str) -> String {
    let rest = rest.replace("; ", "\n");
    let class = if rest.contains("class") { "" } else { "class = \"rate-ip\"\n" };
    let blames = if rest.contains("blames") { "" } else { "blames = \"source\"\n" };
    let action = if rest.contains("action") { "" } else { "action = \"retry\"\n" };
    format!("[[reply]]\nid = \"{id}\"\nprovider = \"{provider}\"\n{class}{blames}{action}{rest}\n")
}

fn table(more: &str) -> Table {
    Table::parse(&format!("{GOOD}{more}")).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"))
}

#[track_caller]
fn check(more: &str, expected: &str) {
    let found = match Table::parse(&format!("{GOOD}{more}")) {
        Ok(_) => String::new(),
        Err(mistakes) => mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    };
    assert_eq!(found, expected, "\n--- for\n{more}");
}

#[test]
fn the_shipped_table_is_right_and_says_what_to_start_with() {
    let table = Table::parse(SHIPPED).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
    assert!(table.providers().len() >= 20);
    let rows: std::collections::HashSet<_> =
        table.providers().iter().flat_map(Provider::rows).map(|r| &r.rule.id).collect();
    assert!(rows.len() >= 80, "{}", rows.len());
    let limits = |host: &str| {
        let limits = &table.provider_of(host).limits;
        (limits.connections.unwrap(), limits.messages_per_connection.unwrap(), limits.tls_wanted.unwrap())
    };
    assert_eq!(limits("mx3.qq.com"), (4, 8, true));
    assert_eq!(limits("gmail-smtp-in.l.google.com"), (5, 50, true));
    assert_eq!(limits("mx.example.net"), (10, 100, false));
    // What a provider does not say is as for everybody.
    assert_eq!(limits("mx1.mail.yahoo.co.jp"), (2, 20, false));
    assert_eq!(table.provider_of("mx3.qq.com").limits.new_connections.unwrap().to_string(), "100/m");
}

#[test]
fn the_longest_name_wins_and_case_and_dots_do_not_matter() {
    let table = table("[[provider]]\nname = \"beta\"\nmx = [\"beta.example\"]\n");
    let of = |host: &str| table.provider_of(host).name.to_string();
    assert_eq!(of("in.alpha.example"), "alpha");
    assert_eq!(of("ALPHA.example."), "alpha");
    assert_eq!(of("a.b.mx.beta.example"), "alpha");
    assert_eq!(of("other.beta.example"), "beta");
    for other in ["notalpha.example", "example", "alpha.example.net", "", ".", "[192.0.2.1]", "192.0.2.1"] {
        assert_eq!(of(other), ANY, "{other}");
    }
}

#[test]
fn a_providers_rows_come_first_and_then_the_order_of_the_file() {
    let rows = [
        row("everywhere", "any", "codes = [550]"),
        row("first", "alpha", "codes = [550]; enhanced = [\"5.7.1\"]"),
        row("second", "alpha", "codes = [550]; text = [\"Too  Much\"]"),
    ];
    let table = table(&rows.concat());
    let judged = |host: &str, lines: &str| {
        let reply = heard(lines.as_bytes());
        table.provider_of(host).judge(&reply, Stage::Mail).row.map(|row| row.rule.id.to_string()).unwrap_or_default()
    };
    assert_eq!(judged("alpha.example", "550 5.7.1 too much"), "first");
    assert_eq!(judged("alpha.example", "550-5.7.9 this is TOO\r\n550 5.7.9 much"), "second");
    assert_eq!(judged("alpha.example", "550 5.7.9 no"), "everywhere");
    assert_eq!(judged("mx.example", "550 5.7.1 too much"), "everywhere");
    assert_eq!(judged("mx.example", "551 no"), "");
}

#[test]
fn a_row_cannot_blame_a_recipient_for_what_was_said_before() {
    let bad = "blames = \"recipient\"; action = \"suppress\"; codes = [\"4xx\", \"5xx\"]";
    let table = table(&row("bad", "any", bad));
    let judged = |stage, lines: &str| shown(&table.provider_of("mx.example").judge(&heard(lines.as_bytes()), stage));
    assert_eq!(judged(Stage::Connect, "554 no"), "bad rate-ip retry host");
    assert_eq!(judged(Stage::Hello, "554 no"), "bad rate-ip retry host");
    assert_eq!(judged(Stage::Mail, "554 no"), "bad rate-ip bounce message");
    assert_eq!(judged(Stage::Recipient, "554 no"), "bad rate-ip suppress recipient");
    assert_eq!(judged(Stage::EndOfData, "554 no"), "bad rate-ip bounce recipient");
    assert_eq!(judged(Stage::EndOfData, "550 5.1.1 no"), "bad rate-ip suppress recipient");
    // A yes that is out of step is no refusal.
    assert_eq!(judged(Stage::Recipient, "250 ok"), "- none retry -");
}

#[test]
fn stages_narrow_a_row() {
    let table = table(&row("only", "any", "stages = [\"rcpt\", \"end-of-data\"]"));
    let knows = |stage| table.provider_of("mx.example").judge(&heard(b"450 no"), stage).row.is_some();
    assert!(knows(Stage::Recipient) && knows(Stage::EndOfData) && !knows(Stage::Mail) && !knows(Stage::Connect));
}

#[test]
fn all_mistakes_are_named_at_once() {
    check(
        "[[reply]]\nid = \"Bad\"\nprovider = \"beta\"\ncodes = [250, \"6xx\"]\nenhanced = [\"4.7\"]\nclass = \"ratelimit\"\n\
         blames = \"us\"\naction = \"drop\"\nslow = \"10\"\nretry_after = \"soon\"\nwhat = 1\n",
        "7: reply[0].id: bad name \"Bad\"; expected 1 to 64 small letters, digits and hyphens\n\
         9: reply[0].codes[0]: bad code \"250\"; expected a refusal's code from 400 to 599, \"4xx\" or \"5xx\"\n\
         9: reply[0].codes[1]: bad code \"6xx\"; expected a refusal's code from 400 to 599, \"4xx\" or \"5xx\"\n\
         10: reply[0].enhanced[0]: bad enhanced status \"4.7\"; expected \"4.7.26\", \"x.7.26\", \"4.7.x\" or \"4.7.850-4.7.899\"\n\
         11: reply[0].class: unknown value \"ratelimit\"; one of rate-ip, rate-domain, rate-sender, recipient-rate, reputation, \
         complaints, list-quality, auth, config, config-ip, block-ip, block-domain, content, message, recipient-bad, \
         recipient-full, limit, capacity, greylist\n\
         12: reply[0].blames: unknown value \"us\"; one of recipient, message, campaign, sender-domain, connection, host, source, site\n\
         13: reply[0].action: unknown value \"drop\"; one of retry, retry-elsewhere, bounce, suppress\n\
         14: reply[0].slow: bad rate \"10\"; expected a rate such as \"100/s\", \"10/m\", \"5/h\" or \"500/d\"\n\
         15: reply[0].retry_after: bad duration \"soon\"; expected \"30s\", \"5m\", \"2h\" or \"3d\", at most 30 days\n\
         16: reply[0].what: unknown key; one of id, provider, codes, enhanced, text, stages, class, blames, action, \
         retry_after, for, slow, connections, suspend, messages_per_connection, fix",
    );
}

#[test]
fn what_is_missing_is_asked_for() {
    check(
        "[[reply]]\n[[provider]]\n",
        "6: reply[0].id: missing; add id = \"gmail-rate-ip\"\n\
         6: reply[0].provider: missing; add provider = \"gmail\", or \"any\" for all\n\
         6: reply[0].class: missing; add class = \"rate-ip\"\n\
         6: reply[0].blames: missing; add blames = \"source\"\n\
         6: reply[0].action: missing; add action = \"retry\"\n\
         6: reply[0].text: nothing says which replies are meant; add codes, enhanced, text or stages\n\
         7: provider[2].name: missing; add name = \"gmail\"",
    );
    let empty = Table::parse("").unwrap_err();
    assert_eq!(empty[0].to_string(), "1: provider: no provider \"any\"; add [[provider]] with name = \"any\"");
    check("[[provider]]\nname = \"beta\"\n", "6: provider[2].mx: missing; add mx = [\"google.com\"]");
}

#[test]
fn keys_that_do_not_fit_together_are_named() {
    check(
        &row("a", "any", "codes = [450]; slow = \"1/m\""),
        "13: reply[0].slow: does not say how long; add for = \"1h\"",
    );
    check(
        &row("a", "any", "codes = [450]; for = \"1h\""),
        "13: reply[0].for: there is nothing that lasts; add slow or connections",
    );
    check(
        &row("a", "any", "codes = [550]; action = \"bounce\"; retry_after = \"1h\""),
        "13: reply[0].retry_after: what bounces is not tried again; leave it out, or action = \"retry\"",
    );
    check(&row("a", "any", "text = []"), "12: reply[0].text: empty; name something, or leave the key out");
    check(
        &row("a", "beta", "codes = [450]"),
        "6: reply[0].provider: unknown provider \"beta\"; add a [[provider]] of that name",
    );
    check(
        &[row("a", "any", "codes = [450]"), row("a", "any", "codes = [451]")].concat(),
        "13: reply[1].id: the id \"a\" is taken; give each row its own id",
    );
    check(
        "[[provider]]\nname = \"alpha\"\nmx = [\"alpha.example\", \".dot\"]\n",
        "6: provider[2].name: the name \"alpha\" is taken; give each provider its own name\n\
         6: provider[2].mx: \"alpha.example\" belongs to provider[1] already; name it once\n\
         8: provider[2].mx[1]: bad domain \".dot\"; expected a name such as \"google.com\"; it includes those below it",
    );
    check("[[rule]]\n", "6: rule: unknown key; one of provider, reply");
    check("[reply]\n", "6: reply: expected an array of tables; write [[reply]] above the keys of each");
}

#[test]
fn a_row_that_can_never_match_is_a_mistake() {
    for (first, second, hidden) in [
        ("codes = [\"5xx\"]", "codes = [550]; text = [\"a\"]", true),
        ("codes = [550]", "codes = [550, 551]", false),
        ("codes = [550]", "text = [\"a\"]", false),
        ("text = [\"spam\"]", "text = [\"looks like spam\"]", true),
        ("text = [\"spam\"]", "text = [\"looks like spam\", \"virus\"]", false),
        ("text = [\"looks like spam\"]", "text = [\"spam\"]", false),
        ("enhanced = [\"x.7.x\"]", "enhanced = [\"4.7.500-4.7.600\"]", true),
        ("enhanced = [\"4.7.x\"]", "enhanced = [\"x.7.1\"]", false),
        ("stages = [\"rcpt\"]", "stages = [\"rcpt\", \"mail\"]", false),
        ("stages = [\"rcpt\", \"mail\"]", "stages = [\"mail\"]", true),
        // The first is broken: what is missing from it may be what makes it narrow.
        ("codes = [1]", "codes = [550]", false),
    ] {
        let text = [GOOD, &row("first", "alpha", first), &row("second", "alpha", second)].concat();
        let found = Table::parse(&text).err().unwrap_or_default();
        let named = found.iter().any(|m| m.wrong == "can never match: \"first\" above it knows all its replies");
        assert_eq!(named, hidden, "{first} / {second}: {found:#?}");
        // Rows of another provider hide nothing.
        let text = [GOOD, &row("first", "any", first), &row("second", "alpha", second)].concat();
        assert!(!format!("{:?}", Table::parse(&text).err()).contains("can never match"), "{first} / {second}");
    }
}

#[test]
fn what_is_no_toml_comes_alone() {
    let found = Table::parse("[[reply]]\nid = \"a\nx = 1\n").unwrap_err();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].line, found[0].key.as_str()), (2, ""));
}

/// Something like a table.
fn any_table() -> impl Strategy<Value = String> {
    let word = "[a-zA-Z0-9.:/\u{fffd}äx-]{0,12}";
    let value = prop_oneof![
        word.prop_map(|w| format!("{w:?}")),
        any::<i64>().prop_map(|n| n.to_string()),
        proptest::collection::vec(word, 0..4).prop_map(|w| format!("{w:?}")),
        Just("true".to_owned()),
        Just("{ a = [[1], {}] }".to_owned()),
    ];
    let key = proptest::sample::select(vec![
        "id",
        "name",
        "provider",
        "mx",
        "codes",
        "enhanced",
        "text",
        "stages",
        "class",
        "blames",
        "action",
        "slow",
        "for",
        "suspend",
        "connections",
        "retry_after",
        "fix",
        "x",
    ]);
    let line = prop_oneof![
        (key, value).prop_map(|(key, value)| format!("{key} = {value}\n")),
        Just("[[reply]]\n".to_owned()),
        Just("[[provider]]\n".to_owned()),
    ];
    proptest::collection::vec(line, 0..20).prop_map(|lines| lines.concat())
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>(), table in any_table()) {
        let _ = Table::parse(&text);
        let _ = Table::parse(&table);
        let _ = Table::parse(&format!("{SHIPPED}\n{table}"));
    }

    #[test]
    fn no_reply_makes_a_judgement_panic_or_condemn_too_much(
        host in "[a-zA-Z0-9.-]{0,40}|mx3.qq.com|mx1.comcast.net",
        code in 0u32..1000,
        text in any::<String>(),
        enhanced in proptest::option::of("[45]\\.[0-9]{1,3}\\.[0-9]{1,3}"),
    ) {
        let table = Table::shipped();
        let enhanced = enhanced.and_then(|e| crate::model::EnhancedStatus::parse(&e));
        let reply = Reply { code, enhanced, text };
        for stage in [Stage::Connect, Stage::Hello, Stage::Mail, Stage::Recipient, Stage::Data, Stage::EndOfData] {
            let judgement = table.provider_of(&host).judge(&reply, stage);
            if matches!(stage, Stage::Connect | Stage::Hello) {
                prop_assert!(!judgement.action.is_final());
            }
            prop_assert!(stage == Stage::Recipient || judgement.action != Action::Suppress || enhanced.unwrap().subject == 1);
        }
    }
}
