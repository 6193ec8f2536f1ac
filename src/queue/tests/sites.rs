//! Sites that domains share: what is learnt moves what waits, and holds for as long as it was said to.

use super::*;
use crate::model::{Measures, Rate, Rule, Slow};
use crate::provider::Limits;
use crate::schedule::SiteLimits;

const HOUR: Duration = Duration::from_secs(3_600);

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

fn shared(connections: u32) -> Option<MailSite> {
    let limits = Arc::new(Limits { connections: Some(connections), ..Limits::default() });
    Some(MailSite { name: "mx h".into(), provider: "any".into(), limits })
}

/// The sites that are roused: their targets' names, and whether somebody should look them up.
fn roused(queue: &Queue) -> Vec<(String, bool)> {
    let name = |target: &Target| match target {
        Target::Mail(MailHop::Mx(domain)) => domain.to_string(),
        Target::Mail(MailHop::Fixed(hop)) => hop.to_string(),
        Target::Shared(site) => site.name.to_string(),
        Target::Text(_) => "text".to_owned(),
    };
    let mut all: Vec<_> = queue.roused().iter().map(|work| (name(&work.target), work.unlocated)).collect();
    all.sort();
    all
}

fn hop_of(lease: &Lease) -> MailHop {
    let Target::Mail(hop) = lease.target() else { panic!("{:?}", lease.target()) };
    hop.clone()
}

#[tokio::test]
async fn what_waits_moves_to_the_site_that_its_domain_shares() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    for to in ["x@a.example", "x@b.example", "x@c.example"] {
        queue.accept(bench.mail(&[to])).await.unwrap();
    }
    let alone = |name: &str, unlocated| (name.to_owned(), unlocated);
    assert_eq!(roused(&queue), [alone("a.example", true), alone("b.example", true), alone("c.example", true)]);
    queue.learn_site(&domain("a.example"), shared(1), HOUR);
    queue.learn_site(&domain("b.example"), shared(1), HOUR);
    queue.learn_site(&domain("c.example"), None, HOUR);
    assert_eq!(roused(&queue), [alone("c.example", false), alone("mx h", false)]);
    // One connection for both domains together; each lease knows its own domain.
    let site = queue.shared.table.lock().schedule.site(&"mx h".into(), SiteLimits { concurrency: 9, pace: None });
    let Pull::Lease(first) = queue.pull(site) else { panic!("a lease") };
    assert!(matches!(queue.pull(site), Pull::Busy));
    let all = outcomes(&first, &relayed());
    let mut hops = vec![hop_of(&first)];
    first.settle(all, Vec::new()).await;
    settled(&queue).await;
    let Pull::Lease(second) = queue.pull(site) else { panic!("a lease") };
    hops.push(hop_of(&second));
    assert_eq!(hops, [MailHop::Mx(domain("a.example")), MailHop::Mx(domain("b.example"))]);
    drop(second);
    // What comes later goes there at once, until that is not to be believed any more.
    queue.accept(bench.mail(&["y@a.example"])).await.unwrap();
    assert!(roused(&queue).contains(&alone("mx h", false)));
    bench.clock.advance(HOUR);
    queue.accept(bench.mail(&["z@a.example"])).await.unwrap();
    assert!(roused(&queue).contains(&alone("a.example", true)));
    // Learnt anew, with other limits.
    queue.learn_site(&domain("a.example"), shared(3), HOUR);
    let in_force = |queue: &Queue| queue.shared.table.lock().schedule.pacer(site).unwrap().in_force(queue.now().mono);
    assert_eq!(in_force(&queue)[0].1.connections, 3);
    assert_eq!(
        queue.message(queue.explain("z@a.example", 1).await[0].id.parse().unwrap(), None).await.unwrap().status,
        "queued"
    );
}

#[tokio::test]
async fn a_domain_without_a_name_server_does_not_close_the_site_it_shares() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    for name in ["a.example", "b.example"] {
        queue.learn_site(&domain(name), shared(4), HOUR);
        for n in 0..3 {
            queue.accept(bench.mail(&[&format!("x{n}@{name}")])).await.unwrap();
        }
    }
    let at = |stage| {
        let status = EnhancedStatus::new(4, 4, 3);
        Outcome::Delayed(Failure::without_reply(Scope::Site, stage, status, "no answer"))
    };
    let one = lease(&queue);
    let all = outcomes(&one, &at(Stage::Dns));
    one.settle(all, Vec::new()).await;
    settled(&queue).await;
    let two = lease(&queue);
    let all = outcomes(&two, &at(Stage::Connect));
    two.settle(all, Vec::new()).await;
    settled(&queue).await;
    assert!(try_lease(&queue).is_none(), "its hosts are left alone for a while");
}

#[tokio::test]
async fn a_lane_whose_sources_may_send_nothing_waits_and_its_site_goes_on() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    for name in ["a.example", "b.example"] {
        queue.learn_site(&domain(name), shared(4), HOUR);
    }
    let site = queue.shared.table.lock().schedule.site(&"mx h".into(), SiteLimits { concurrency: 9, pace: None });
    let mut ids = Vec::new();
    for to in ["x@a.example", "y@a.example"] {
        ids.push(queue.accept(bench.mail(&[to])).await.unwrap().message_id());
    }
    let why = "source new has had its 5 recipients";
    let failure = Failure::without_reply(Scope::Source, Stage::Route, EnhancedStatus::new(4, 4, 5), why);
    let waits =
        |scope| Outcome::Delayed(Failure { scope, throttled: true, retry_after: Some(2 * HOUR), ..failure.clone() });
    let Pull::Lease(first) = queue.pull(site) else { panic!("a lease") };
    let all = outcomes(&first, &waits(Scope::Source));
    first.settle(all, Vec::new()).await;
    settled(&queue).await;
    // The other one of that lane is not even tried; other lanes of the site are, at its full width.
    assert!(matches!(queue.pull(site), Pull::Nothing | Pull::Busy));
    let views = [queue.message(ids[0], None).await.unwrap(), queue.message(ids[1], None).await.unwrap()];
    assert_eq!(views[0].recipients[0].attempts_made, 0, "nobody was asked");
    assert!(views[0].recipients[0].attempts[0].reason.as_deref() == Some(why), "{views:?}");
    assert!(views[1].recipients[0].waiting_for.as_ref().unwrap().ends_with(why), "{views:?}");
    queue.accept(bench.mail(&["z@b.example"])).await.unwrap();
    let Pull::Lease(other) = queue.pull(site) else { panic!("a lease") };
    assert_eq!(hop_of(&other), MailHop::Mx(domain("b.example")));
    // A mail that waits for itself alone holds nobody up.
    let all = outcomes(&other, &waits(Scope::Message));
    other.settle(all, Vec::new()).await;
    settled(&queue).await;
    queue.accept(bench.mail(&["w@b.example"])).await.unwrap();
    let Pull::Lease(next) = queue.pull(site) else { panic!("a lease") };
    assert_eq!(hop_of(&next), MailHop::Mx(domain("b.example")));
    drop(next);
    {
        let table = queue.shared.table.lock();
        let (_, pacer) = table.schedule.pacer(site).unwrap().in_force(queue.now().mono).remove(0);
        assert_eq!((pacer.connections, pacer.eased, pacer.suspended), (4, None, None));
    }
    // It is looked at again before the two hours are over: somebody may have given it other sources.
    bench.clock.advance(HOUR / 4);
    queue.advance();
    let mut hops = Vec::new();
    while let Pull::Lease(lease) = queue.pull(site) {
        hops.push(hop_of(&lease));
        let all = outcomes(&lease, &relayed());
        lease.settle(all, Vec::new()).await;
        settled(&queue).await;
    }
    assert!(hops.contains(&MailHop::Mx(domain("a.example"))) && hops.len() == 2, "{hops:?}");
}

#[tokio::test]
async fn a_campaign_that_a_site_complains_of_waits_in_lanes_of_its_own_and_the_rest_goes() {
    let bench = Bench::new();
    let (queue, _) = bench.open().await;
    queue.learn_site(&domain("a.example"), shared(4), HOUR);
    let site = queue.shared.table.lock().schedule.site(&"mx h".into(), SiteLimits { concurrency: 9, pace: None });
    let mut ids = Vec::new();
    for (to, campaign) in [("1", Some("spring")), ("2", Some("spring")), ("3", Some("spring")), ("4", None)] {
        let mut mail = bench.mail(&[&format!("{to}@a.example")]);
        mail.envelope.campaign = campaign.map(Into::into);
        ids.push(queue.accept(mail).await.unwrap().message_id());
    }
    // What the site says of the first slows down the others of its campaign.
    let slow = Slow { to: Rate { count: 6, per: HOUR }, lasts: 4 * HOUR };
    let failure = Failure {
        rule: Some(Rule { id: "row".into(), class: "content".into() }),
        measures: Some(Arc::new(Measures { slow: Some(slow), ..Measures::default() })),
        ..Failure::without_reply(Scope::Campaign, Stage::EndOfData, EnhancedStatus::new(4, 7, 1), "later")
    };
    let Pull::Lease(mut first) = queue.pull(site) else { panic!("a lease") };
    first.load().await.unwrap();
    assert!(!first.must_wait());
    let all = outcomes(&first, &Outcome::Delayed(failure));
    first.settle(all, Vec::new()).await;
    settled(&queue).await;
    let (mut waited, mut went) = (0, 0);
    while let Pull::Lease(mut lease) = queue.pull(site) {
        lease.load().await.unwrap();
        if lease.must_wait() {
            waited += 1;
            continue;
        }
        let all = outcomes(&lease, &relayed());
        lease.settle(all, Vec::new()).await;
        settled(&queue).await;
        went += 1;
    }
    // Each of the two is moved once, when its turn comes.
    assert_eq!((waited, went), (2, 1));
    assert_eq!(status(&queue, ids[3]).await, "delivered");
    let view = queue.message(ids[2], None).await.unwrap();
    let recipient = &view.recipients[0];
    assert_eq!(&*recipient.lane, "a.example/transactional/shop/spring");
    let why = "campaign spring: at most 6/h for a while by row (content)";
    assert!(recipient.waiting_for.as_ref().unwrap().ends_with(why), "{recipient:?}");
    assert!(bench.events().contains(&"paused".to_owned()));
    // Ten minutes later one of them goes, and ten later another.
    for _ in 0..2 {
        bench.clock.advance(HOUR / 6);
        queue.advance();
        let Pull::Lease(mut lease) = queue.pull(site) else { panic!("a lease") };
        lease.load().await.unwrap();
        assert!(!lease.must_wait());
        let all = outcomes(&lease, &relayed());
        lease.settle(all, Vec::new()).await;
        settled(&queue).await;
        if let Pull::Lease(mut early) = queue.pull(site) {
            early.load().await.unwrap();
            assert!(early.must_wait());
        }
    }
}
