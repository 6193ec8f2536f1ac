//! One lane: tickets of one destination, class and client, first come first served.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::SiteId;
use super::shares::Counts;
use super::slab::{List, PLACE_BITS};
use crate::clock::Mono;
use crate::model::{Class, ClientName};

/// Names a lane within one schedule. One that was dropped is not known any more; its number comes back, under another
/// generation, after that of all others dropped before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LaneId(u32);

/// What of a client's mail travels in lanes of its own.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Apart {
    /// A campaign.
    Campaign(Arc<str>),
    /// The mail of a sender's domain.
    Sender(Arc<str>),
}

impl fmt::Display for Apart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Campaign(name) => f.write_str(name),
            Self::Sender(domain) => write!(f, "@{domain}"),
        }
    }
}

/// What a lane is: destination, class and client, and what is told apart within these. Two consignments with the same key share
/// a lane.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LaneKey {
    /// Where to, in the caller's words: a domain, a set of carriers.
    pub destination: Arc<str>,
    /// Priority.
    pub class: Class,
    /// Whose it is.
    pub client: ClientName,
    /// What the caller wants in a lane of its own.
    pub apart: Option<Apart>,
}

impl LaneKey {
    /// The campaign, if it is one that is told apart.
    pub fn campaign(&self) -> Option<&Arc<str>> {
        match self.apart.as_ref()? {
            Apart::Campaign(name) => Some(name),
            Apart::Sender(_) => None,
        }
    }

    /// The lane's written name: `example.com/transactional/shop`, with `/spring` behind it for a campaign that is told apart,
    /// `/@example.org` for a sender's domain.
    pub fn name(&self) -> Arc<str> {
        let Self { destination, class, client, apart } = self;
        match apart {
            None => format!("{destination}/{class}/{client}").into(),
            Some(apart) => format!("{destination}/{class}/{client}/{apart}").into(),
        }
    }
}

/// What waits in a lane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaneCount {
    /// The lane.
    pub key: LaneKey,
    /// Its site.
    pub site: SiteId,
    /// Ready to go.
    pub ready: usize,
    /// Not due yet.
    pub waiting: usize,
    /// Leased.
    pub leased: usize,
    /// When the earliest of those waiting is due.
    pub next_due: Option<Mono>,
}

/// A lane and what is in it. Tickets not yet due stand in the schedule's wheel and are only counted here.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) key: LaneKey,
    pub(super) name: Arc<str>,
    pub(super) site: SiteId,
    /// The client's number at the sites.
    pub(super) client: u32,
    pub(super) ready: List,
    pub(super) waiting: u32,
    pub(super) leased: u32,
    /// The turn for which it stands in its client's line; zero if it does not. A place in a line with another number is
    /// one that it has left.
    pub(super) turn: u64,
    /// Somebody holds it.
    pub(super) held: bool,
    /// Nothing is given out until then, and why.
    pub(super) rests: Option<(Mono, Arc<str>)>,
    /// What became of its mails lately.
    pub(super) counts: Counts,
}

impl Lane {
    pub(super) fn new(key: LaneKey, site: SiteId, client: u32, held: bool) -> Self {
        let name = key.name();
        Self {
            key,
            name,
            site,
            client,
            ready: List::EMPTY,
            waiting: 0,
            leased: 0,
            turn: 0,
            held,
            rests: None,
            counts: Counts::default(),
        }
    }

    /// It stands in no line, and its site does not count what is ready in it.
    #[inline]
    pub(super) fn is_aside(&self) -> bool {
        self.held || self.rests.is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.waiting == 0 && self.leased == 0
    }
}

/// All lanes, by their places.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    homes: Vec<Home>,
    free: VecDeque<u32>,
}

#[derive(Debug)]
struct Home {
    generation: u32,
    lane: Option<Lane>,
}

impl Lanes {
    pub(super) fn len(&self) -> usize {
        self.homes.len() - self.free.len()
    }

    /// Places so far; all lanes are below.
    pub(super) fn places(&self) -> usize {
        self.homes.len()
    }

    pub(super) fn insert(&mut self, lane: Lane) -> LaneId {
        let place = self.free.pop_front().unwrap_or_else(|| {
            assert!(self.homes.len() < 1 << PLACE_BITS, "more lanes than there may be tickets");
            self.homes.push(Home { generation: 0, lane: None });
            (self.homes.len() - 1) as u32
        });
        self.homes[place as usize].lane = Some(lane);
        self.id(place)
    }

    /// The number of the lane at a place.
    pub(super) fn id(&self, place: u32) -> LaneId {
        LaneId(self.homes[place as usize].generation << PLACE_BITS | place)
    }

    /// The place of a lane, if there still is such a lane.
    pub(super) fn find(&self, id: LaneId) -> Option<u32> {
        let (place, generation) = (id.0 % (1 << PLACE_BITS), id.0 >> PLACE_BITS);
        let home = self.homes.get(place as usize)?;
        (home.generation == generation && home.lane.is_some()).then_some(place)
    }

    #[inline]
    pub(super) fn at(&self, place: u32) -> Option<&Lane> {
        self.homes.get(place as usize)?.lane.as_ref()
    }

    #[inline]
    pub(super) fn at_mut(&mut self, place: u32) -> Option<&mut Lane> {
        self.homes.get_mut(place as usize)?.lane.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Lane)> {
        (0..).zip(&self.homes).filter_map(|(place, home)| Some((place, home.lane.as_ref()?)))
    }

    pub(super) fn each(&mut self, then: impl FnMut(&mut Lane)) {
        self.homes.iter_mut().filter_map(|home| home.lane.as_mut()).for_each(then);
    }

    /// Drops the lanes that are empty and do not rest.
    pub(super) fn drop_empty(&mut self) {
        for (place, home) in (0..).zip(&mut self.homes) {
            if home.lane.as_ref().is_some_and(|lane| lane.is_empty() && lane.rests.is_none()) {
                home.lane = None;
                home.generation = (home.generation + 1) % (1 << (32 - PLACE_BITS));
                self.free.push_back(place);
            }
        }
    }
}
