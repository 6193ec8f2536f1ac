//! Which carriers a text may go by: by its number, the network of that number, its class and its client.
//!
//! **Promises.** A route counts if everything it names fits. Of several the one wins that names the client, then the one that
//! names the class, then the one that knows most of the number: a network counts as the first digits by which it was known.
//! Of equals the first.
//!
//! **Does not know** carriers' state: who of a course's carriers takes a text is decided when it leaves.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::{Hours, Network, Networks, Ported, Prices, SendingHours};
use crate::model::{Class, ClientName, Money, Number};
use crate::sms::Repertoire;

/// The carriers that a text may go by.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Course {
    /// Their names; in order of preference where nothing else decides. Never empty but for a number that nobody serves.
    pub carriers: Arc<[Arc<str>]>,
    /// Who of them gets a text.
    pub choice: Choice,
    /// Who gets a text that one of those did not bring, as by a call: no text begins there but a code while all of those are
    /// down.
    pub then: Arc<[Arc<str>]>,
}

/// Who of the carriers of a course gets a text.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Choice {
    /// The first that can take it.
    Order,
    /// The one that takes least for a part; equals, and those whose price is not known, in their order, these last. A table of
    /// routes has none: [`TextRoutes::priced`] puts their carriers in order.
    Price,
    /// Each its share.
    Weights(Weights),
    /// The one that brings most, and soonest; the others share this many of a hundred, so that it is known how they do.
    Quality {
        /// 0 to 50.
        canary: u32,
    },
}

/// What each carrier of a course is to get of its texts, in proportion; as many as there are carriers, not all nought.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Weights(Arc<[u32]>);

impl Weights {
    /// Weights for so many carriers; `None` if they are not as many, or all nought.
    pub fn new(weights: &[u32], carriers: usize) -> Option<Self> {
        (weights.len() == carriers && weights.iter().any(|w| *w > 0)).then(|| Self(weights.into()))
    }

    /// In the carriers' order.
    pub fn all(&self) -> &[u32] {
        &self.0
    }
}

impl Course {
    /// One in order of preference.
    pub fn in_order(carriers: impl Into<Arc<[Arc<str>]>>) -> Self {
        Self { carriers: carriers.into(), choice: Choice::Order, then: Arc::default() }
    }

    /// That of a number that no route serves any more.
    pub fn nowhere() -> Self {
        Self::in_order([])
    }

    /// All it may lead to.
    pub fn all(&self) -> impl Iterator<Item = &Arc<str>> {
        self.carriers.iter().chain(&*self.then)
    }

    /// Does it lead to this carrier?
    pub fn leads_to(&self, carrier: &str) -> bool {
        self.all().any(|c| **c == *carrier)
    }
}

/// As lanes and sites are named after it: `a,b`, or `a:95,b:5`, or `a,b by quality`, or `a,b>voice`.
impl fmt::Display for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, carrier) in self.carriers.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{carrier}")?;
            if let Choice::Weights(weights) = &self.choice {
                write!(f, ":{}", weights.all()[at])?;
            }
        }
        if let Choice::Quality { canary } = &self.choice {
            write!(f, " by quality, {canary} % to others")?;
        }
        for (at, carrier) in self.then.iter().enumerate() {
            write!(f, "{}{carrier}", if at == 0 { ">" } else { "," })?;
        }
        Ok(())
    }
}

/// One route for texts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TextRoute {
    /// First digits of the numbers it serves, with the `+`; `+` alone is all.
    pub prefixes: Vec<String>,
    /// Networks whose numbers it serves, by name or by MCC and MNC. It may have both.
    pub networks: Vec<Arc<str>>,
    /// Classes it serves; none for all.
    pub classes: Vec<Class>,
    /// Clients it serves; none for all.
    pub clients: Vec<ClientName>,
    /// Where to.
    pub course: Arc<Course>,
}

impl TextRoute {
    /// One for all texts to numbers that begin so.
    pub fn by_prefix(prefix: &str, course: Course) -> Self {
        let (networks, classes, clients) = (Vec::new(), Vec::new(), Vec::new());
        Self { prefixes: vec![prefix.to_owned()], networks, classes, clients, course: Arc::new(course) }
    }

    fn takes(&self, class: Class, client: &ClientName) -> bool {
        let named = |names: &[ClientName]| names.is_empty() || names.contains(client);
        (self.classes.is_empty() || self.classes.contains(&class)) && named(&self.clients)
    }
}

/// What carriers have said of numbers' networks. It is no part of what is configured: tables that differ in it alone are equal.
#[derive(Clone, Debug, Default)]
struct Learnt(Option<Ported>);

impl PartialEq for Learnt {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Learnt {}

/// What it comes to when a carrier says that a number is of another network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Doubt {
    /// It is none of these.
    Not(Vec<Arc<str>>),
    /// With what was known before no network is left.
    Contradiction,
}

/// All routes for texts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TextRoutes {
    routes: Vec<TextRoute>,
    networks: Arc<Networks>,
    hours: Vec<SendingHours>,
    prices: Prices,
    ported: Learnt,
    /// What carriers know to read, where they say so.
    repertoires: HashMap<Arc<str>, Repertoire>,
    /// Routes by the first digits that they name.
    by_prefix: HashMap<Box<str>, Vec<usize>>,
    /// Routes by the network that they name.
    by_network: HashMap<Arc<str>, Vec<usize>>,
    longest: usize,
}

impl TextRoutes {
    /// A table of routes, of whose numbers are whose, and of when texts may leave.
    pub fn new(routes: Vec<TextRoute>, networks: Arc<Networks>, hours: Vec<SendingHours>) -> Self {
        let mut table = Self { networks, hours, ..Self::default() };
        for (at, route) in routes.iter().enumerate() {
            for prefix in &route.prefixes {
                table.longest = table.longest.max(prefix.len());
                table.by_prefix.entry(prefix.as_str().into()).or_default().push(at);
            }
            for network in table.networks.all().iter().filter(|n| route.networks.iter().any(|word| n.is(word))) {
                table.by_network.entry(network.name.clone()).or_default().push(at);
            }
        }
        table.routes = routes;
        table
    }

    /// The same, with what parts cost. Who goes by price is put in order, as prices are for the first beginning that the route
    /// names.
    pub fn priced(mut self, prices: Prices) -> Self {
        for route in self.routes.iter_mut().filter(|route| route.course.choice == Choice::Price) {
            let of_network = || self.networks.all().iter().find(|n| route.networks.iter().any(|word| n.is(word)));
            let first = route.prefixes.first().or_else(|| of_network()?.prefixes.first());
            let first = first.map_or("+", String::as_str);
            let mut carriers = route.course.carriers.to_vec();
            carriers.sort_by_key(|carrier| prices.of_digits(carrier, first).map_or((true, None), |p| (false, Some(p))));
            let then = route.course.then.clone();
            route.course = Arc::new(Course { then, ..Course::in_order(carriers) });
        }
        Self { prices, ..self }
    }

    /// The same, with what carriers know to read.
    pub fn reading(self, repertoires: HashMap<Arc<str>, Repertoire>) -> Self {
        Self { repertoires, ..self }
    }

    /// That of the carrier that would get a text first.
    pub fn repertoire(&self, number: &Number, class: Class, client: &ClientName) -> Repertoire {
        let first = self.course(number, class, client).and_then(|course| course.carriers.first());
        first.and_then(|carrier| self.repertoires.get(carrier)).cloned().unwrap_or_default()
    }

    /// The same, with what carriers' refusals have shown of numbers' networks, and will.
    pub fn knowing(self, ported: Ported) -> Self {
        Self { ported: Learnt(Some(ported)), ..self }
    }

    /// What it comes to when a carrier says that a number is of another network; `None`, nothing, if a route without networks leads to
    /// the carrier.
    pub fn doubted(&self, number: &Number, carrier: &str) -> Option<Doubt> {
        let mut not = Vec::new();
        for route in self.routes.iter().filter(|route| route.course.leads_to(carrier)) {
            if route.networks.is_empty() {
                return None;
            }
            let named = self.networks.all().iter().filter(|network| route.networks.iter().any(|word| network.is(word)));
            not.extend(named.map(|network| network.name.clone()));
        }
        not.sort();
        not.dedup();
        let known = self.ported.0.as_ref().and_then(|ported| ported.not(number)).unwrap_or_default();
        let all: Vec<Arc<str>> = not.iter().cloned().chain(known).collect();
        match self.networks.but(number, &all) {
            _ if not.is_empty() => None,
            Some(_) => Some(Doubt::Not(not)),
            None => Some(Doubt::Contradiction),
        }
    }

    /// The network of a number, as far as is known, and how many characters of it say so.
    fn network_of(&self, number: &Number) -> Option<(&Network, usize)> {
        let not = self.ported.0.as_ref().and_then(|ported| ported.not(number));
        not.and_then(|not| self.networks.but(number, &not)).or_else(|| self.networks.of(number))
    }

    /// What parts cost.
    pub fn prices(&self) -> &Prices {
        &self.prices
    }

    /// Who would get a text first, and what it takes for a part, if that is known.
    pub fn first(&self, number: &Number, class: Class, client: &ClientName) -> Option<(&Arc<str>, Option<Money>)> {
        let carrier = self.course(number, class, client)?.carriers.first()?;
        Some((carrier, self.prices.of(carrier, number)))
    }

    /// All routes.
    pub fn all(&self) -> &[TextRoute] {
        &self.routes
    }

    /// Whose numbers are whose.
    pub fn networks(&self) -> &Arc<Networks> {
        &self.networks
    }

    /// The hours at which texts of a class to a number may be sent, if there are any; the longest beginning wins, and of equals
    /// the first.
    pub fn hours(&self, number: &Number, class: Class) -> Option<Hours> {
        let all = self.hours.iter().enumerate().filter(|(_, hours)| hours.classes.contains(&class));
        let fitting = all.filter_map(|(at, hours)| {
            Some((number.longest_beginning(&hours.prefixes)?, std::cmp::Reverse(at), hours.hours))
        });
        fitting.max_by_key(|(length, at, _)| (*length, *at)).map(|(.., hours)| hours)
    }

    /// The carriers for a text; `None` if no route serves it.
    pub fn course(&self, number: &Number, class: Class, client: &ClientName) -> Option<&Arc<Course>> {
        let learnt = self.course_within(self.network_of(number), number, class, client);
        // What was learnt must not keep a text from being taken.
        learnt.or_else(|| self.course_within(self.networks.of(number), number, class, client))
    }

    fn course_within(
        &self,
        network: Option<(&Network, usize)>,
        number: &Number,
        class: Class,
        client: &ClientName,
    ) -> Option<&Arc<Course>> {
        let text = number.as_str();
        let lengths = 1..=text.len().min(self.longest);
        let by_prefix = lengths.filter_map(|length| Some((self.by_prefix.get(&text[..length])?, length)));
        let by_network = network.and_then(|(network, length)| Some((self.by_network.get(&network.name)?, length)));
        by_prefix
            .chain(by_network)
            .flat_map(|(routes, length)| routes.iter().map(move |&at| (&self.routes[at], length, at)))
            .filter(|(route, ..)| route.takes(class, client))
            .max_by_key(|(route, length, at)| {
                (!route.clients.is_empty(), !route.classes.is_empty(), *length, std::cmp::Reverse(*at))
            })
            .map(|(route, ..)| &route.course)
    }
}

impl From<Vec<TextRoute>> for TextRoutes {
    fn from(routes: Vec<TextRoute>) -> Self {
        Self::new(routes, Arc::default(), Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Network;
    use crate::route::prices::price;

    fn to(carrier: &str) -> Course {
        Course::in_order([Arc::from(carrier)])
    }

    fn client(name: &str) -> ClientName {
        name.into()
    }

    fn carrier(routes: &TextRoutes, number: &str, class: Class, name: &str) -> Option<String> {
        let number = Number::parse(number).unwrap();
        routes.course(&number, class, &client(name)).map(ToString::to_string)
    }

    #[tokio::test]
    async fn what_a_carrier_says_of_a_number_counts_before_its_digits() {
        let dir = tempfile::tempdir().unwrap();
        let (file, disk) = (dir.path().join("ported.jsonl"), Arc::new(crate::storage::RealDisk));
        let terms = crate::route::PortedTerms { most: 10, keep: std::time::Duration::from_secs(1_000) };
        let now = crate::clock::Timestamp::from_seconds(10);
        let ported = Ported::open(disk, &file, terms, now).unwrap();
        let network =
            |name: &str, prefix: &str| Network { name: name.into(), mcc_mnc: None, prefixes: vec![prefix.to_owned()] };
        let route = |network: &str, carrier: &str| TextRoute {
            prefixes: Vec::new(),
            networks: vec![network.into()],
            ..TextRoute::by_prefix("+", to(carrier))
        };
        let networks =
            Networks::new([network("mobile", "+86138"), network("unicom", "+86130"), network("lost", "+86133")]);
        let list = vec![route("mobile", "a"), route("unicom", "b"), TextRoute::by_prefix("+1", to("c"))];
        let routes = TextRoutes::new(list, Arc::new(networks), Vec::new()).knowing(ported.clone());
        let number = Number::parse("+8613800138000").unwrap();
        let carrier = |number: &Number| carrier(&routes, number.as_str(), Class::Otp, "shop");
        assert_eq!(carrier(&number).as_deref(), Some("a"));
        assert_eq!(routes.doubted(&number, "c"), None, "it serves whoever begins so");
        let Some(Doubt::Not(not)) = routes.doubted(&number, "a") else { panic!() };
        ported.learn(&number, &not, &"a".into(), terms, now).await.unwrap();
        assert_eq!(carrier(&number).as_deref(), Some("b"));
        assert_eq!(carrier(&Number::parse("+8613800138001").unwrap()).as_deref(), Some("a"));
        let Some(Doubt::Not(not)) = routes.doubted(&number, "b") else { panic!() };
        ported.learn(&number, &not, &"b".into(), terms, now).await.unwrap();
        assert_eq!(carrier(&number).as_deref(), Some("a"), "no route leads to what is left: its digits decide");
        ported.learn(&number, &["lost".into()], &"b".into(), terms, now).await.unwrap();
        assert_eq!(routes.doubted(&number, "a"), Some(Doubt::Contradiction));
    }

    #[test]
    fn the_longest_prefix_wins() {
        let routes = TextRoutes::from(vec![
            TextRoute::by_prefix("+86", to("a")),
            TextRoute::by_prefix("+86138", to("b")),
            TextRoute::by_prefix("+86138", to("c")),
        ]);
        let carrier = |number| carrier(&routes, number, Class::Otp, "shop");
        assert_eq!(carrier("+8613800138000").as_deref(), Some("b"), "of equals the first");
        assert_eq!(carrier("+8613900138000").as_deref(), Some("a"));
        assert_eq!(carrier("+14155550100"), None);
    }

    #[test]
    fn who_names_the_client_or_the_class_goes_before_who_knows_more_of_the_number() {
        let everybody = TextRoute::by_prefix("+86138", to("everybody"));
        let codes = TextRoute { classes: vec![Class::Otp], ..TextRoute::by_prefix("+86", to("codes")) };
        let bank = TextRoute { clients: vec![client("bank")], ..TextRoute::by_prefix("+", to("bank")) };
        let both = TextRoute { classes: vec![Class::Otp], ..bank.clone() };
        let both = TextRoute { course: Arc::new(to("bank's codes")), ..both };
        let routes = TextRoutes::from(vec![everybody, codes, bank, both]);
        let carrier = |class, name| carrier(&routes, "+8613800138000", class, name).unwrap();
        assert_eq!(carrier(Class::Marketing, "shop"), "everybody");
        assert_eq!(carrier(Class::Otp, "shop"), "codes");
        assert_eq!(carrier(Class::Marketing, "bank"), "bank");
        assert_eq!(carrier(Class::Otp, "bank"), "bank's codes");
    }

    #[test]
    fn a_network_counts_as_the_digits_that_it_was_known_by() {
        let prefixes = vec!["+86138".to_owned(), "+8613900000001".to_owned()];
        let mobile = Network { name: "mobile".into(), mcc_mnc: Some("46000".into()), prefixes };
        let by_network = |word: &str, carrier: &str| TextRoute {
            prefixes: vec![],
            networks: vec![word.into()],
            ..TextRoute::by_prefix("", to(carrier))
        };
        let longer = TextRoute::by_prefix("+861380", to("longer"));
        let all = TextRoute::by_prefix("+86", to("all"));
        let networks = Arc::new(Networks::new([mobile]));
        for word in ["mobile", "46000"] {
            let list = vec![all.clone(), by_network(word, "net"), longer.clone()];
            let routes = TextRoutes::new(list, networks.clone(), Vec::new());
            let carrier = |number| carrier(&routes, number, Class::Marketing, "shop").unwrap();
            assert_eq!(carrier("+8613812345678"), "net");
            assert_eq!(carrier("+8613800138000"), "longer");
            assert_eq!(carrier("+8613900000001"), "net", "ported");
            assert_eq!(carrier("+8613900000002"), "all");
        }
    }

    #[test]
    fn the_longest_beginning_says_when_a_text_may_leave() {
        let hours = |prefix: &str, classes: &[Class], hours: &str| SendingHours {
            prefixes: vec![prefix.to_owned()],
            classes: classes.to_vec(),
            hours: hours.parse().unwrap(),
        };
        let all = vec![
            hours("+86", &[Class::Marketing], "08:00-20:00 +08:00"),
            hours("+86755", &[Class::Marketing, Class::Transactional], "09:00-18:00 +08:00"),
        ];
        let routes = TextRoutes::new(Vec::new(), Arc::default(), all);
        let of = |number, class| routes.hours(&Number::parse(number).unwrap(), class).map(|h| h.to_string());
        assert_eq!(of("+8613800138000", Class::Marketing).as_deref(), Some("08:00-20:00 +08:00"));
        assert_eq!(of("+8675512345678", Class::Marketing).as_deref(), Some("09:00-18:00 +08:00"));
        assert_eq!(of("+8675512345678", Class::Transactional).as_deref(), Some("09:00-18:00 +08:00"));
        assert_eq!((of("+8613800138000", Class::Otp), of("+14155550100", Class::Marketing)), (None, None));
    }

    #[test]
    fn by_price_the_cheapest_comes_first() {
        let names = ["dear", "unknown", "cheap", "abroad"].map(Arc::<str>::from);
        let course = Course { choice: Choice::Price, ..Course::in_order(names) };
        let prices = Prices::new(
            "CNY".into(),
            vec![price("dear", "+", "0.05"), price("cheap", "+86", "0.03"), price("abroad", "+1", "0.01")],
        );
        let routes = TextRoutes::from(vec![TextRoute::by_prefix("+86", course)]).priced(prices);
        let carrier = |number| carrier(&routes, number, Class::Otp, "shop");
        assert_eq!(carrier("+8613800138000").as_deref(), Some("cheap,dear,unknown,abroad"));
        let number = Number::parse("+8613800138000").unwrap();
        let (first, part) = routes.first(&number, Class::Otp, &client("shop")).unwrap();
        assert_eq!((&**first, part.map(|p| p.to_string()).as_deref()), ("cheap", Some("0.03")));
    }

    #[test]
    fn a_course_is_named_after_its_carriers_and_their_weights() {
        let names: Arc<[Arc<str>]> = Arc::from([Arc::from("a"), Arc::from("b")]);
        let weighted = |weights: &[u32]| Weights::new(weights, 2);
        assert_eq!(Course::in_order(names.clone()).to_string(), "a,b");
        let then: Arc<[Arc<str>]> = Arc::from([Arc::from("call"), Arc::from("last")]);
        let choice = Choice::Weights(weighted(&[95, 5]).unwrap());
        let course = Course { choice, then, ..Course::in_order(names) };
        assert_eq!(course.to_string(), "a:95,b:5>call,last");
        let by_quality = Course { choice: Choice::Quality { canary: 5 }, then: Arc::default(), ..course };
        assert_eq!(by_quality.to_string(), "a,b by quality, 5 % to others");
        assert_eq!((weighted(&[1]), weighted(&[0, 0])), (None, None));
    }
}
