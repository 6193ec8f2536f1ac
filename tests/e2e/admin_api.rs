//! The operators' API: what it orders is what the commands see, and it serves nobody without the token.

use serde_json::{Value, json};

use crate::support::SOON;
use crate::support::http::{self, Answer};
use crate::support::peer::MailSink;
use crate::support::relay::{Relay, SENDER_DOMAIN, SINK_DOMAIN, Settings};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A relay whose `[admin]` names that token file.
fn with_token(settings: &Settings, token: &str) -> Relay {
    let mut relay = Relay::prepare(settings);
    write_token(&relay, token);
    let text = std::fs::read_to_string(relay.config()).unwrap();
    std::fs::write(relay.config(), text.replace("[admin]\n", "[admin]\ntoken_file = \"admin.token\"\n")).unwrap();
    relay.launch();
    relay
}

fn write_token(relay: &Relay, token: &str) {
    std::fs::write(relay.dir().join("admin.token"), format!("{token}\n")).unwrap();
}

fn ask_with(relay: &Relay, token: &str, method: &str, path: &str, body: &Value) -> Answer {
    let field = format!("Authorization: Bearer {token}");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    http::request(&relay.listeners.admin, method, path, &[&field], body.as_bytes())
}

/// What the API answers to somebody with the token.
fn ask(relay: &Relay, method: &str, path: &str, body: &Value) -> Value {
    let answer = ask_with(relay, TOKEN, method, path, body);
    assert_eq!(answer.status, 200, "{method} {path}: {}", answer.json());
    answer.json()
}

/// What a command prints as JSON.
fn printed(relay: &Relay, arguments: &[&str]) -> Value {
    let output = relay.command(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_campaign_is_paused_explained_and_resumed_over_http() {
    let sink = MailSink::start(0);
    let relay = with_token(&Settings { smtp_port: sink.0.port, ..Settings::default() }, TOKEN);
    let order = json!({"action": "pause", "selector": {"campaign": "spring"}, "reason": "wrong price"});
    let rule = ask(&relay, "POST", "/v1/steering", &order)["rule"].clone();
    assert_eq!((&rule["id"], &rule["by"]), (&json!(1), &json!("admin-api (127.0.0.1)")), "{rule}");
    let (from, to) = (format!("hello@{SENDER_DOMAIN}"), format!("lin@{SINK_DOMAIN}"));
    let mail = json!({"from": from, "to": [to], "subject": "spring", "text": "Hello", "campaign": "spring"});
    let accepted = relay.api("POST", "/v1/email", &[], &mail.to_string()).json();
    let id = accepted["id"].as_str().unwrap();
    let explained = relay.explained(id, SOON, |m| m["status"] == "held");
    assert!(explained["recipients"][0]["waiting_for"].as_str().unwrap().contains("wrong price"), "{explained}");

    let listed = printed(&relay, &["steering"]);
    assert_eq!((&listed[0]["reason"], &listed[0]["waiting"]), (&json!("wrong price"), &json!(1)), "{listed}");
    assert_eq!(ask(&relay, "GET", "/v1/steering", &Value::Null)["rules"], listed);
    let answer = ask(&relay, "GET", &format!("/v1/messages/{id}"), &Value::Null);
    let held = &answer["messages"][0]["recipients"][0];
    for fact in ["lane", "site", "limit", "waiting_for", "attempts"] {
        assert_eq!((&held[fact], held[fact].is_null()), (&explained["recipients"][0][fact], false), "{fact}");
    }
    let queue = ask(&relay, "GET", "/v1/queue", &Value::Null);
    assert_eq!((&queue["kind"], &queue["messages"]), (&json!("queue"), &json!(1)));
    assert_eq!(queue["lanes"][0]["lane"], held["lane"]);
    let sentence = json!({"end": "cancel", "selector": {"campaign": "spring"}, "reason": "x", "dry_run": true});
    assert_eq!(ask(&relay, "POST", "/v1/sweep", &sentence)["hit"], 1);

    let ended = ask(&relay, "DELETE", "/v1/steering/1", &Value::Null);
    assert_eq!(ended["rule"]["reason"], "wrong price");
    sink.subject("spring");
    relay.reaches(id, "delivered");
    let explained = printed(&relay, &["explain", id]);
    assert!(explained[0]["recipients"][0]["attempts"][0]["reply"].is_string(), "{explained}");
    for path in [format!("/v1/messages/{id}"), format!("/v1/messages?address={to}&limit=5")] {
        assert_eq!(ask(&relay, "GET", &path, &Value::Null), json!({"kind": "messages", "messages": explained}));
    }
    assert_eq!(printed(&relay, &["steering"]), json!([]));
    assert_eq!(ask_with(&relay, TOKEN, "DELETE", "/v1/steering/1", &Value::Null).status, 404);
    let by = |event: &Value| event["steering"]["by"] == "admin-api (127.0.0.1)";
    relay.event("steered", |event| event["steering"]["action"] == "resume" && by(event));
    assert!(!relay.log().contains(TOKEN));
}

#[test]
fn nobody_is_served_without_the_token_and_a_reload_changes_it() {
    let relay = Relay::start(&Settings::default());
    let status = |relay: &Relay, token: &str| ask_with(relay, token, "GET", "/v1/status", &Value::Null).status;
    assert_eq!(status(&relay, TOKEN), 403, "no token is configured");
    drop(relay);
    let relay = with_token(&Settings::default(), TOKEN);
    let refused = ask_with(&relay, "0123456789abcdef0123456789abcdee", "GET", "/v1/status", &Value::Null);
    assert_eq!((refused.status, refused.field("www-authenticate")), (401, Some(r#"Bearer realm="postrider admin""#)));
    assert_eq!(http::request(&relay.listeners.admin, "GET", "/v1/status", &[], b"").status, 401);
    assert_eq!(http::request(&relay.listeners.admin, "GET", "/readyz", &[], b"").status, 200);
    assert_eq!(ask(&relay, "GET", "/v1/status", &Value::Null)["ready"], true);

    let new = "fedcba9876543210fedcba9876543210";
    write_token(&relay, new);
    let reloaded = ask(&relay, "POST", "/v1/reload", &Value::Null);
    let restarts = |notes: &Value| notes.as_array().unwrap().iter().any(|note| note.to_string().contains("restart"));
    assert!(!restarts(&reloaded["notes"]), "{reloaded}");
    assert_eq!((status(&relay, TOKEN), status(&relay, new)), (401, 200));
    let text = std::fs::read_to_string(relay.config()).unwrap();
    std::fs::write(relay.config(), text.replace("[queue]", "[quue]")).unwrap();
    let refused = ask_with(&relay, new, "POST", "/v1/reload", &Value::Null);
    assert_eq!(refused.status, 422);
    assert!(refused.json().to_string().contains("quue: unknown table"), "{}", refused.json());
    assert_eq!(status(&relay, new), 200, "the old configuration stays in force");
}
