//! Texts that wait for their receipts on disk, because memory is to keep none.

use crate::support::peer::OwnCarrier;
use crate::support::relay::{Relay, Settings, smpp_carrier};
use crate::support::{PATIENCE, SOON, eventually};

#[test]
fn texts_on_the_shelf_are_shown_and_get_their_receipts_also_after_kill_9() {
    let carrier = OwnCarrier::start_on(0, &["--receipt-delay", "15s"]);
    let route = "[[sms_route]]\nprefixes = [\"+\"]\ncarriers = [\"one\"]\n";
    let extra = smpp_carrier("one", carrier.0.port, route);
    let mut relay = Relay::prepare(&Settings { extra, ..Settings::default() });
    let written = std::fs::read_to_string(relay.config()).unwrap();
    std::fs::write(relay.config(), written.replace("[queue]\n", "[queue]\nreceipts_in_memory = 0\n")).unwrap();
    relay.launch();
    let long = "a long text, ".repeat(20);
    let ids: Vec<String> = (0..20)
        .map(|n| relay.post_text(&format!("+86138001380{n:02}"), if n % 2 == 0 { "short" } else { &long }))
        .collect();
    let shelved = |relay: &Relay| relay.metric("postrider_texts_shelved").unwrap_or_default();
    eventually("all lie on the shelf", SOON, || (shelved(&relay) == 20).then_some(()));
    let shown = relay.explain(&ids[1]);
    assert_eq!(
        (&shown[0]["status"], shown[0]["recipients"][0]["parts"].as_array().unwrap().len()),
        (&"sent".into(), 2)
    );
    assert!(ids.iter().all(|id| relay.message(id)["status"] == "sent"));
    relay.kill_9();
    relay.launch();
    for id in &ids {
        let shown = relay.explained(id, PATIENCE, |message| message["status"] == "delivered");
        assert!(shown["recipients"][0]["parts"][0]["receipt"].as_str().unwrap().contains("DELIVRD"), "{shown}");
    }
    eventually("nothing lies on the shelf", SOON, || (shelved(&relay) == 0).then_some(()));
    for kind in ["accepted", "sent", "delivered"] {
        assert_eq!(relay.events(kind).len(), 20, "each is told of once: {kind}");
    }
    assert_eq!(carrier.wait_for_texts(20, SOON).len(), 20, "none is sent again");
}
