//! Hunts that exist in memory, and messages that are numbers of a book.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use muster_intake::fold::HuntView;
use muster_intake::worker::{Due, HuntInfo, HuntSource, SourceError};
use muster_results::{RowClass, TableSpec};
use muster_types::{
    AgentKind, AgentNo, AgentSet, ColumnDecl, ColumnType, Decode, Facts, HuntNo, OrgId, Outcome,
    Poison, Record, Timestamp,
};
use parking_lot::Mutex;

use crate::agents::SCHEDULED;
use crate::state::{FOLLOWED, WHOLE};

/// All hunts of the world.
#[derive(Default)]
pub struct Hunts {
    pub state: Mutex<State>,
    pub agents: BTreeMap<AgentNo, AgentKind>,
}

#[derive(Default)]
pub struct State {
    pub recruited: BTreeMap<HuntNo, BTreeSet<AgentNo>>,
    /// Hunts that are over: what is left of them times out.
    pub over: BTreeSet<HuntNo>,
    /// Waves the instances have not heard of until they look.
    pub unheard: BTreeSet<(HuntNo, AgentNo)>,
}

fn table(name: &str, class: RowClass) -> Arc<TableSpec> {
    let columns = vec![ColumnDecl { name: "id".to_owned(), kind: ColumnType::Int }];
    Arc::new(TableSpec { name: name.to_owned(), class, columns, open: false })
}

#[async_trait]
impl HuntSource for Hunts {
    async fn hunt(&self, hunt: HuntNo) -> Result<Option<HuntInfo>, SourceError> {
        let view = HuntView {
            org: OrgId::DEFAULT,
            rows_per_endpoint: u64::MAX,
            bytes_per_endpoint: u64::MAX,
            interactive: hunt.0.is_multiple_of(2),
            watched: false,
        };
        let known = self.state.lock().recruited.contains_key(&hunt);
        let table = table(&format!("rows_{}", hunt.0 % 2), RowClass::Collected);
        Ok(known.then_some(HuntInfo { view, table }))
    }

    fn recruited(&self, hunt: HuntNo, among: &AgentSet) -> AgentSet {
        let state = self.state.lock();
        let Some(recruited) = state.recruited.get(&hunt) else { return AgentSet::default() };
        let heard = |agent: &AgentNo| !state.unheard.contains(&(hunt, *agent));
        among.iter().filter(|agent| recruited.contains(agent)).filter(heard).collect()
    }

    async fn refresh(&self) -> Result<(), SourceError> {
        self.state.lock().unheard.clear();
        Ok(())
    }

    fn scheduled(&self, _: OrgId, _: AgentKind, source: &str) -> Option<Arc<TableSpec>> {
        let name = match source {
            SCHEDULED => "lines",
            FOLLOWED => "followed",
            WHOLE => "whole",
            _ => return None,
        };
        Some(table(name, RowClass::Scheduled))
    }

    fn due(&self, _: Timestamp) -> Vec<Due> {
        let state = self.state.lock();
        let due = |hunt: &HuntNo| Due {
            hunt: *hunt,
            agents: state.recruited[hunt].iter().copied().collect::<AgentSet>(),
            outcome: Outcome::TimedOut,
            reason: "its time is up".to_owned(),
        };
        state.over.iter().map(due).collect()
    }

    fn agent(&self, agent: AgentNo) -> Option<(OrgId, AgentKind)> {
        self.agents.get(&agent).map(|kind| (OrgId::DEFAULT, *kind))
    }
}

/// What the messages say, by number; the wire carries only the number.
#[derive(Default)]
pub struct Book(Mutex<Vec<Facts>>);

impl Book {
    pub fn write(&self, facts: Facts) -> Bytes {
        let mut book = self.0.lock();
        book.push(facts);
        Bytes::copy_from_slice(&(book.len() as u64 - 1).to_le_bytes())
    }
}

/// Reads the book.
pub struct BookDecoder(pub Arc<Book>);

impl Decode for BookDecoder {
    fn decode(&self, _: &Record, payload: Bytes) -> Result<Facts, Poison> {
        let bytes: Option<[u8; 8]> = payload.as_ref().try_into().ok();
        let page = bytes.map(|bytes| u64::from_le_bytes(bytes) as usize);
        let facts = page.and_then(|page| self.0.0.lock().get(page).cloned());
        facts.ok_or_else(|| Poison { reason: "no such page".to_owned() })
    }
}
