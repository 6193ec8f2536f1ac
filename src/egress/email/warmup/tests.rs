//! Plans, days and their verdicts, counts over restarts and by many at once, and some weeks of it.

use proptest::prelude::*;

use super::pair::{Gate, Pair, Reason, Stage, Tally, Verdict};
use super::*;
use crate::clock::ManualClock;
use crate::egress::email::{Pool, Whose};
use crate::model::{EnhancedStatus, Relayed, Reply, Rule};

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3_600);
/// 2026-11-26, half past ten.
const NOW: Timestamp = Timestamp::from_seconds(1_795_689_000);

fn plan(days: &[u32], rules: Rules) -> Plan {
    Plan { name: "slow".into(), days: days.into(), providers: BTreeMap::new(), rules }
}

/// The whole of a day may go at once.
fn at_once() -> Rules {
    Rules { hourly: Share::percent(100), ..Rules::default() }
}

/// Sources of one pool by name, with this plan.
fn sources(names: &[&str], plan: Plan) -> Sources {
    let plan = Arc::new(plan);
    let source = |name: &&str| Source {
        name: (*name).into(),
        addresses: vec![],
        hostname: None,
        proxy: None,
        connections_max: 100,
        warmup: Some(plan.clone()),
    };
    let members = names.iter().map(|name| (Arc::new(source(name)), 1)).collect();
    Sources::new(vec![Pool { name: "all".into(), members, whose: Whose::default() }])
}

fn towards(provider: &str) -> Towards {
    Towards { site: provider.into(), provider: Some(provider.into()), of: None, shares: None }
}

/// A warm-up with sources, kept in a directory.
struct World {
    warmup: Arc<WarmUp>,
    sources: Sources,
    clock: Arc<ManualClock>,
    dir: tempfile::TempDir,
}

impl World {
    fn new(plan: Plan) -> Self {
        let (clock, dir) = (Arc::new(ManualClock::at(NOW)), tempfile::tempdir().unwrap());
        let warmup = Self::opened(&clock, &dir);
        Self { warmup, sources: sources(&["new"], plan), clock, dir }
    }

    fn opened(clock: &Arc<ManualClock>, dir: &tempfile::TempDir) -> Arc<WarmUp> {
        WarmUp::open(Some(dir.path().join("warmup.json")), clock.clone(), Arc::new(Metrics::new()))
    }

    /// As if the process had been killed.
    fn crash(&mut self) {
        self.warmup = Self::opened(&self.clock, &self.dir);
    }

    async fn reserve(&self, provider: &str, count: usize) -> Grant {
        let source = self.sources.warming()[0].clone();
        self.warmup.reserve(&source, &towards(provider), count).await
    }

    /// Sends as much as it may of `count`; what becomes of it.
    async fn send(&self, provider: &str, count: usize, outcomes: impl Fn(usize) -> Outcome) -> usize {
        let grant = self.reserve(provider, count).await;
        let sent = grant.count();
        grant.settle(&(0..sent).map(outcomes).collect::<Vec<_>>());
        sent
    }

    fn of(&self, provider: &str) -> WarmupView {
        let all = self.warmup.view(&self.sources);
        all.into_iter().find(|view| view.provider.as_deref() == Some(provider)).unwrap()
    }

    /// The first of the events since it was asked last, as the file shows it, without its time.
    fn event(&self) -> serde_json::Value {
        let mut fact = serde_json::to_value(&self.warmup.tend(&self.sources)[0]).unwrap();
        fact.as_object_mut().unwrap().remove("time");
        fact
    }

    /// What was told since it was asked last: verdict, and where it led.
    fn told(&self) -> Vec<String> {
        let facts = self.warmup.tend(&self.sources);
        let told = facts.into_iter().map(|fact| {
            let of = fact.warmup.unwrap();
            let to = of.to.map_or("warm".to_owned(), |day| format!("day {day}"));
            format!("{} {} {to}{}", of.date, of.verdict, fact.reason.map(|r| format!(": {r}")).unwrap_or_default())
        });
        told.collect()
    }
}

fn relayed(_: usize) -> Outcome {
    let reply = Reply { code: 250, enhanced: None, text: "ok".to_owned() };
    Outcome::Relayed(Relayed { reply, notifies: false })
}

fn failure(class: &str) -> Failure {
    let why = Failure::without_reply(Scope::Source, At::Mail, EnhancedStatus::new(4, 7, 0), "no");
    let reply = Some(Reply { code: 451, enhanced: None, text: "no".to_owned() });
    Failure { reply, rule: Some(Rule { id: "x".into(), class: class.into() }), ..why }
}

#[test]
fn the_built_in_plan_grows_from_careful_to_everything() {
    let plan = Plan::default();
    let days = plan.days_of("gmail");
    assert_eq!((days[0], days.len()), (100, 23));
    assert!(days.windows(2).all(|two| two[1] > two[0] && two[1] <= two[0] * 3 / 2), "{days:?}");
    assert!(*days.last().unwrap() > 150_000, "{days:?}");
    assert_eq!(plan.days_of("outlook")[4], days[4] / 2);
    assert_eq!((plan.last("qq"), plan.days_of("qq").iter().max()), (60, Some(&500)));
    assert_eq!((plan.cap("gmail", 1), plan.cap("gmail", 23).is_some(), plan.cap("gmail", 24)), (Some(100), true, None));
}

#[test]
fn days_begin_where_the_plan_says() {
    let china = Rules { zone_s: 8 * 3_600, ..Rules::default() };
    let day = china.day(NOW);
    assert_eq!((day.to_string(), china.hour(NOW)), ("2026-11-26".to_owned(), 18));
    assert_eq!(china.begins(day, 24).rfc3339(), "2026-11-26T16:00:00.000000Z");
    assert_eq!(china.day(china.begins(day, 24)).since(day), 1);
    assert_eq!(china.day(china.begins(day, 24).minus(Duration::from_micros(1))), day);
    let west = Rules { zone_s: -5 * 3_600, ..Rules::default() };
    assert_eq!((west.hour(NOW), west.begins(west.day(NOW), 0).rfc3339().as_str()), (5, "2026-11-26T05:00:00.000000Z"));
    assert_eq!(Day::parse("2026-11-26"), Some(day));
    for bad in ["", "2026-11-26T00:00:00", "2026-13-01", "26-11-2026", "２０２６"] {
        assert_eq!(Day::parse(bad), None, "{bad}");
    }
}

/// What a day comes to.
fn verdict(tally: Tally, complaints: Option<u64>, held: u32) -> String {
    let plan = plan(&[100, 1_000, 2_000], at_once());
    let mut pair = Pair::new(2, &plan.rules, NOW);
    (pair.tally, pair.held, pair.used) = (Tally { complaints, ..tally }, held, tally.answered);
    let judged = pair.roll(&plan, "gmail", NOW.plus(DAY));
    let to = match pair.stage {
        Stage::Day(day) => day,
        Stage::Warm => 99,
    };
    judged.map_or("nothing".to_owned(), |judged| format!("{} {to} {}", judged.verdict, pair.held))
}

#[test]
fn a_day_counts_if_its_gates_were_passed_and_enough_was_used() {
    let day = |answered, deferred, unknown| Tally {
        answered,
        relayed: answered - deferred - unknown,
        deferred,
        unknown,
        ..Tally::default()
    };
    for (tally, complaints, held, expected) in [
        (day(1_000, 9, 19), None, 2, "advanced 3 0"),
        (day(700, 0, 0), None, 0, "advanced 3 0"),
        (day(699, 0, 0), None, 1, "held, 699 of 1000 were used, less than 70 % 2 0"),
        // Without traffic a day is none.
        (day(0, 0, 0), None, 2, "nothing"),
        // Gates, missed and missed badly.
        (day(1_000, 10, 0), None, 0, "held, 10 of 1000 deferred, which must stay below 1 % 2 1"),
        (day(1_000, 29, 0), None, 1, "held, 29 of 1000 deferred, which must stay below 1 % 2 2"),
        (day(1_000, 30, 0), None, 0, "back, 30 of 1000 deferred, which must stay below 1 % 1 0"),
        (day(1_000, 0, 20), None, 0, "held, 20 of 1000 unknown users, which must stay below 2 % 2 1"),
        (day(1_000, 0, 60), None, 0, "back, 60 of 1000 unknown users, which must stay below 2 % 1 0"),
        (day(1_000, 10, 60), None, 0, "back, 60 of 1000 unknown users, which must stay below 2 % 1 0"),
        (day(1_000, 0, 0), Some(0), 0, "advanced 3 0"),
        (day(1_000, 0, 0), Some(1), 0, "held, 1 of 1000 complaints, which must stay below 0.1 % 2 1"),
        (day(1_000, 0, 0), Some(3), 0, "back, 3 of 1000 complaints, which must stay below 0.1 % 1 0"),
        // Held too often.
        (day(1_000, 10, 0), None, 2, "held, 10 of 1000 deferred, which must stay below 1 % 2 3"),
        (day(1_000, 10, 0), None, 3, "back, 4 days held in a row: 10 of 1000 deferred, which must stay below 1 % 1 0"),
        // Few recipients: of two hundred.
        (day(50, 1, 3), None, 0, "held, 50 of 1000 were used, less than 70 % 2 0"),
        (day(50, 2, 0), None, 0, "held, 2 of 200 deferred, which must stay below 1 % 2 1"),
        (day(6, 6, 0), None, 0, "back, 6 of 200 deferred, which must stay below 1 % 1 0"),
        // Connections that were refused are deferrals, though nothing was sent.
        (
            Tally { turned_away: 6, ..Tally::default() },
            None,
            0,
            "back, 6 of 200 deferred, which must stay below 1 % 1 0",
        ),
        (Tally { blocked: 1, ..day(1_000, 0, 0) }, None, 0, "back, 1 refusals say that it is on a block list 1 0"),
    ] {
        assert_eq!(verdict(tally, complaints, held), expected, "{tally:?} {complaints:?} {held}");
    }
}

#[test]
fn going_back_stops_at_the_first_day_and_the_last_day_makes_warm() {
    let plan = plan(&[100, 100], at_once());
    let mut pair = Pair::new(2, &plan.rules, NOW);
    (pair.tally.answered, pair.tally.blocked) = (100, 2);
    assert!(matches!(pair.roll(&plan, "x", NOW.plus(DAY)).unwrap().verdict, Verdict::Back(Reason::Blocked(2))));
    assert_eq!(pair.stage, Stage::Day(1));
    for (day, verdict) in [(2, Verdict::Advanced), (3, Verdict::Finished)] {
        (pair.tally.answered, pair.active) = (70, pair.day);
        assert_eq!(pair.roll(&plan, "x", NOW.plus(day * DAY)).unwrap().verdict, verdict);
    }
    assert_eq!((pair.stage, pair.left(&plan, "x"), pair.cap(&plan, "x")), (Stage::Warm, u64::MAX, None));
    // Nobody judges it any more, but for a long silence.
    (pair.tally.answered, pair.tally.deferred) = (10, 10);
    assert_eq!(pair.roll(&plan, "x", NOW.plus(4 * DAY)), None);
    assert_eq!(pair.roll(&plan, "x", NOW.plus(32 * DAY)), None, "thirty days since the last mail");
    let idle = pair.roll(&plan, "x", NOW.plus(33 * DAY)).unwrap();
    assert_eq!((idle.verdict, pair.stage), (Verdict::Back(Reason::Idle { days: 31 }), Stage::Day(1)));
    assert_eq!(pair.roll(&plan, "x", NOW.plus(90 * DAY)), None, "it is on its first day already");
    // A plan that has become shorter.
    let mut long = Pair::new(7, &plan.rules, NOW);
    assert_eq!((long.roll(&plan, "x", NOW), long.stage), (None, Stage::Warm));
}

#[test]
fn a_clock_that_is_set_back_begins_nothing_anew() {
    let plan = plan(&[100], Rules::default());
    let mut pair = Pair::new(1, &plan.rules, NOW);
    assert_eq!(pair.take(&plan, "x", 25), 25);
    for earlier in [HOUR, DAY] {
        assert_eq!(pair.roll(&plan, "x", NOW.minus(earlier)), None);
        assert_eq!((pair.left(&plan, "x"), pair.used), (0, 25), "{earlier:?}");
    }
    let until = |pair: &Pair| pair.used_up(&plan, "new", "x").unwrap().until.rfc3339();
    assert_eq!(until(&pair), "2026-11-26T11:00:00.000000Z");
    // One that was far ahead does not make it wait for that day.
    assert_eq!(pair.roll(&plan, "x", NOW.minus(40 * DAY)), None);
    assert_eq!((pair.used, until(&pair).as_str()), (25, "2026-10-17T11:00:00.000000Z"));
}

proptest! {
    #[test]
    fn no_hour_and_no_day_gets_more_than_its_share(
        steps in proptest::collection::vec((0_u64..40_000, 0_u64..80, any::<bool>()), 1..60),
        cap in 1_u32..200,
        percent in 1_u32..=100,
    ) {
        let plan = plan(&[cap; 50], Rules { hourly: Share::percent(percent), ..Rules::default() });
        let mut pair = Pair::new(1, &plan.rules, NOW);
        let (mut now, mut days, mut hours) = (NOW, HashMap::new(), HashMap::new());
        let share = plan.rules.hourly.of(u64::from(cap)).max(1);
        for (seconds, wanted, back) in steps {
            now = now.plus(Duration::from_secs(seconds));
            pair.roll(&plan, "x", now);
            let taken = pair.take(&plan, "x", wanted);
            if back {
                pair.give_back(taken, pair.day, pair.hour);
                continue;
            }
            *days.entry(pair.day).or_insert(0) += taken;
            *hours.entry((pair.day, pair.hour)).or_insert(0) += taken;
            let used_up = pair.used_up(&plan, "s", "x");
            prop_assert_eq!(used_up.is_some(), pair.left(&plan, "x") == 0);
            prop_assert!(used_up.is_none_or(|used| used.until > now));
        }
        prop_assert!(days.values().all(|sent| *sent <= u64::from(cap)));
        prop_assert!(hours.values().all(|sent| *sent <= share));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_ask_at_once_no_more_is_given_than_there_is() {
    let world = World::new(plan(&[500], at_once()));
    let source = world.sources.warming()[0].clone();
    let asking = (0..64).map(|n| {
        let (warmup, source) = (world.warmup.clone(), source.clone());
        tokio::spawn(async move {
            let mut kept = 0;
            for turn in 0..40 {
                let grant = warmup.reserve(&source, &towards("gmail"), 1 + n % 3).await;
                // Some find that nothing went.
                if (n + turn) % 5 == 0 {
                    grant.give_back();
                } else {
                    kept += grant.count();
                    grant.settle(&[]);
                }
            }
            kept
        })
    });
    let mut sent = 0;
    for one in asking.collect::<Vec<_>>() {
        sent += one.await.unwrap();
    }
    assert_eq!(sent, 500);
    assert_eq!(world.reserve("gmail", 1).await.count(), 0);
    let used_up = world.warmup.used_up(&source, &towards("gmail")).unwrap();
    assert_eq!(used_up.wait, Duration::from_secs(48_600), "until midnight");
    let failure = used_up.failure();
    assert_eq!(
        failure.cause.as_deref(),
        Some(
            "source new has had its 500 recipients of day 1 of its warm-up (plan slow) to gmail; more from \
             2026-11-27T00:00:00.000000Z"
        )
    );
    assert_eq!(failure.lane_waits(), Some(Duration::from_secs(48_600)));
}

#[tokio::test]
async fn a_crash_forgets_nothing_that_went_and_an_end_knows_it_exactly() {
    let mut world = World::new(plan(&[100, 100], at_once()));
    assert_eq!(world.send("gmail", 42, relayed).await, 42);
    world.crash();
    let used = world.of("gmail").used;
    assert!((42..=52).contains(&used), "{used}");
    assert_eq!(world.send("gmail", 1_000, relayed).await as u64, 100 - used);
    assert_eq!(world.of("gmail").used, 100);
    let mut world = World::new(plan(&[100, 100], at_once()));
    assert_eq!(world.send("gmail", 42, relayed).await, 42);
    world.warmup.close();
    world.crash();
    assert_eq!(world.of("gmail").used, 42);
    // What became of it is there as well, and the next day finds it.
    assert_eq!(world.send("gmail", 58, relayed).await, 58);
    world.clock.advance(DAY);
    assert_eq!(world.told(), ["2026-11-26 advanced day 2"]);
    assert_eq!(world.of("gmail").verdict.as_deref(), Some("2026-11-26: advanced"));
    // One at a time: each crash may cost as much as the file was ahead, and never gives anything.
    let mut sent = 0;
    while world.send("gmail", 1, relayed).await == 1 {
        sent += 1;
        world.crash();
        assert!(world.of("gmail").used >= sent, "{sent}");
    }
    assert!((5..=100).contains(&sent), "{sent}");
}

#[tokio::test]
async fn a_file_that_cannot_be_written_holds_up_no_mail() {
    let world = World::new(plan(&[100], at_once()));
    std::fs::create_dir(world.dir.path().join("warmup.json.new")).unwrap();
    assert_eq!(world.send("gmail", 70, relayed).await, 70);
    assert_eq!(world.send("gmail", 70, relayed).await, 30);
}

#[tokio::test]
async fn what_an_outcome_says_of_a_source() {
    let world = World::new(plan(&[100], at_once()));
    let unknown = Failure { scope: Scope::Recipient, stage: At::Recipient, rule: None, ..failure("") };
    let outcomes = [
        Outcome::Delayed(failure("rate-ip")),
        Outcome::Delayed(failure("greylist")),
        Outcome::Delayed(failure("recipient-full")),
        Outcome::Delayed(Failure { rule: None, ..failure("") }),
        Outcome::Failed(failure("recipient-bad")),
        Outcome::Failed(unknown),
        Outcome::Failed(failure("content")),
        Outcome::Delayed(failure("block-ip")),
        relayed(0),
    ];
    assert_eq!(world.send("gmail", outcomes.len(), |n| outcomes[n].clone()).await, outcomes.len());
    let source = world.sources.warming()[0].clone();
    for class in ["rate-ip", "block-ip", "greylist"] {
        world.warmup.turned_away(&source, &towards("gmail"), &failure(class));
    }
    world.warmup.turned_away(&source, &towards("gmail"), &Failure { reply: None, ..failure("rate-ip") });
    let key = ("new".into(), "gmail".into());
    let tally = world.warmup.state.lock().pairs[&key].pair.tally;
    let expected =
        Tally { answered: 9, relayed: 1, deferred: 3, unknown: 2, turned_away: 2, blocked: 2, complaints: None };
    assert_eq!(tally, expected);
    // Dropped in the middle, it has gone for all we know; given back, it has not.
    drop(world.reserve("gmail", 10).await);
    world.reserve("gmail", 10).await.give_back();
    assert_eq!(world.of("gmail").used, 19);
}

#[tokio::test]
async fn complaints_told_of_later_count_at_the_next_verdict() {
    let world = World::new(plan(&[1_000; 9], at_once()));
    let tell = |provider: &str, day: &str, count| {
        let (source, provider, day) = ("new".into(), provider.into(), Day::parse(day).unwrap());
        world.warmup.complaints(&Complaints { source, provider, day, count })
    };
    assert_eq!(tell("gmail", "2026-11-26", 1), Err(UnknownMail));
    let day = async |expected: &[&str]| {
        assert_eq!(world.send("gmail", 1_000, relayed).await, 1_000);
        world.clock.advance(DAY);
        assert_eq!(world.told(), expected);
    };
    day(&["2026-11-26 advanced day 2"]).await;
    day(&["2026-11-27 advanced day 3"]).await;
    // Of the first day: seen by the verdict on the third, and by no other.
    assert_eq!(tell("gmail", "2026-11-26", 1), Ok(()));
    assert_eq!(tell("gmail", "2026-11-20", 1), Err(UnknownMail));
    day(&["2026-11-28 held day 3: 1 of 1000 complaints, which must stay below 0.1 %"]).await;
    day(&["2026-11-29 advanced day 4"]).await;
    // The same said once more is nothing new; more is.
    assert_eq!(tell("gmail", "2026-11-26", 1), Ok(()));
    day(&["2026-11-30 advanced day 5"]).await;
    assert_eq!(tell("gmail", "2026-11-26", 4), Ok(()));
    day(&["2026-12-01 back day 4: 4 of 1000 complaints, which must stay below 0.1 %"]).await;
    assert_eq!(tell("yahoo", "2026-12-01", 4), Err(UnknownMail));
    assert_eq!(world.of("gmail").complaints, None);
    world.send("gmail", 1, relayed).await;
    assert_eq!((tell("gmail", "2026-12-02", 4), world.of("gmail").complaints), (Ok(()), Some(4)));
}

#[tokio::test]
async fn a_verdict_is_an_event_and_a_metric() {
    let world = World::new(plan(&[10, 10], at_once()));
    world.send("gmail", 10, relayed).await;
    world.clock.advance(DAY);
    let expected = serde_json::json!({
        "event": "warmup", "channel": "email",
        "warmup": {"source": "new", "provider": "gmail", "date": "2026-11-26", "verdict": "advanced", "from": 1, "to": 2,
                   "recipients": 10, "cap": 10}
    });
    assert_eq!(world.event(), expected);
    world.send("gmail", 9, |_| Outcome::Delayed(failure("rate-ip"))).await;
    world.warmup.tend(&world.sources);
    let metrics = world.warmup.metrics.render();
    for line in [
        r#"postrider_warmup_day{provider="gmail",source="new"} 2"#,
        r#"postrider_warmup_recipients_limit{provider="gmail",source="new"} 10"#,
        r#"postrider_warmup_recipients{provider="gmail",source="new"} 9"#,
        r#"postrider_warmup_days_total{provider="gmail",source="new",verdict="advanced"} 1"#,
    ] {
        assert!(metrics.contains(line), "no {line} in\n{metrics}");
    }
    world.clock.advance(DAY);
    let event = world.event();
    assert_eq!((&event["warmup"]["verdict"], &event["warmup"]["to"]), (&"back".into(), &1.into()), "{event}");
    assert_eq!(event["reason"], "9 of 200 deferred, which must stay below 1 %");
}

#[tokio::test]
async fn an_operator_puts_a_source_where_it_belongs() {
    let mut world = World::new(plan(&[10, 20, 30], at_once()));
    assert_eq!(world.warmup.view(&world.sources)[0].provider, None);
    world.send("gmail", 10, relayed).await;
    assert!(world.of("gmail").waits.is_some_and(|why| why.contains("day 1")));
    assert!(!world.warmup.reset(&world.sources, "other", None, 2));
    assert!(world.warmup.reset(&world.sources, "new", None, 3));
    world.crash();
    let view = world.of("gmail");
    assert_eq!((view.day, view.cap, view.used, view.waits), (Some(3), Some(30), 0, None));
    assert_eq!(world.send("yahoo", 50, relayed).await, 30, "where nothing has gone yet as well");
    assert!(world.warmup.reset(&world.sources, "new", Some("gmail"), 4));
    assert_eq!((world.of("gmail").day, world.of("yahoo").day), (None, Some(3)));
    assert_eq!(world.send("gmail", 5_000, relayed).await, 5_000, "it is warm");
    assert!(world.warmup.reset(&world.sources, "new", Some("qq"), 2));
    assert_eq!((world.of("qq").day, world.of("qq").days), (Some(2), 3));
}

/// Five weeks: traffic by the hour, weekends without mail, days on which all goes wrong, crashes, and at last a long silence.
#[tokio::test]
async fn some_weeks_of_warming_up() {
    let mut world = World::new(Plan::default());
    let mut told = Vec::new();
    for day in 0..38_u64 {
        // From half past ten to half past ten: days are judged at midnight.
        for _ in 0..24 {
            if !matches!(day % 7, 5 | 6) {
                let outcome = |n: usize| match day {
                    // Two in a hundred; then all; then a block.
                    3 if n.is_multiple_of(50) => Outcome::Delayed(failure("rate-ip")),
                    9 => Outcome::Delayed(failure("reputation")),
                    15 if n == 0 => Outcome::Delayed(failure("block-ip")),
                    _ => relayed(n),
                };
                world.send("gmail", if day < 33 { 200_000 } else { 10 }, outcome).await;
                let view = world.of("gmail");
                assert!(view.cap.is_none_or(|cap| view.used <= cap), "{view:?}");
            }
            world.clock.advance(HOUR);
            told.extend(world.told());
        }
        if day % 4 == 0 {
            world.crash();
        }
    }
    // Of the 2nd, 9th, 16th and 23rd of December, which had no mail, nothing is told.
    let expected = [
        "2026-11-26 advanced day 2",
        "2026-11-27 advanced day 3",
        "2026-11-28 advanced day 4",
        "2026-11-29 advanced day 5",
        "2026-11-30 held day 5: 8 of 383 deferred, which must stay below 1 %",
        "2026-12-01 advanced day 6",
        "2026-12-03 advanced day 7",
        "2026-12-04 advanced day 8",
        "2026-12-05 advanced day 9",
        "2026-12-06 back day 8: 1470 of 1470 deferred, which must stay below 1 %",
        "2026-12-07 advanced day 9",
        "2026-12-08 advanced day 10",
        "2026-12-10 advanced day 11",
        "2026-12-11 advanced day 12",
        "2026-12-12 back day 10: 4 refusals say that it is on a block list",
        "2026-12-13 advanced day 11",
        "2026-12-14 advanced day 12",
        "2026-12-15 advanced day 13",
        "2026-12-17 advanced day 14",
        "2026-12-18 advanced day 15",
        "2026-12-19 advanced day 16",
        "2026-12-20 advanced day 17",
        "2026-12-21 advanced day 18",
        "2026-12-22 advanced day 19",
        "2026-12-24 advanced day 20",
        "2026-12-25 advanced day 21",
        "2026-12-26 advanced day 22",
        "2026-12-27 advanced day 23",
        "2026-12-28 finished warm",
    ];
    assert_eq!(told, expected);
    world.clock.advance(40 * DAY);
    assert_eq!(world.told(), ["2027-01-03 back day 1: 40 days without mail"]);
}

#[test]
fn gates_have_words() {
    let limit = Share::millionths(1_000);
    for (gate, words) in [
        (Gate::Deferrals, "1 of 9 deferred, which must stay below 0.1 %"),
        (Gate::Unknown, "1 of 9 unknown users, which must stay below 0.1 %"),
        (Gate::Complaints, "1 of 9 complaints, which must stay below 0.1 %"),
    ] {
        assert_eq!(Reason::Gate { gate, part: 1, of: 9, limit }.to_string(), words);
    }
}
