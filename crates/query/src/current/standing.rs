//! How the state of each agent's sources stands, by the marks.

use std::collections::HashMap;

use arrow::array::{Int64Array, StringViewArray};

/// The state of one source of one agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// The one that counts; 0 when there is none.
    pub generation: i64,
    /// When it was last seen, in microseconds.
    pub seen: i64,
    /// Whether something is missing.
    pub gap: bool,
    /// The greatest generation of which there are rows beside the base.
    pub stepped: i64,
}

impl Standing {
    /// Whether its rows must be summed up.
    pub(super) fn has_steps(self) -> bool {
        self.stepped == self.generation
    }
}

/// All of them, by source. Agents are numbered densely.
#[derive(Debug, Default)]
pub(super) struct Standings {
    sources: HashMap<String, Vec<Standing>>,
}

impl Standings {
    fn at(&mut self, source: &str, agent: i64) -> Option<&mut Standing> {
        let agent = u32::try_from(agent).ok()? as usize;
        if !self.sources.contains_key(source) {
            self.sources.insert(source.to_owned(), Vec::new());
        }
        let agents = self.sources.get_mut(source)?;
        if agents.len() <= agent {
            agents.resize(agent + 1, Standing::default());
        }
        agents.get_mut(agent)
    }

    /// Takes a mark in.
    pub(super) fn mark(&mut self, source: &str, agent: i64, generation: i64, seen: i64, gap: bool) {
        let Some(known) = self.at(source, agent) else { return };
        if generation > known.generation {
            *known = Standing { generation, seen, gap, stepped: known.stepped };
        } else if generation == known.generation {
            known.seen = known.seen.max(seen);
            known.gap |= gap;
        }
    }

    /// Takes note of rows beside the base.
    pub(super) fn step(&mut self, source: &str, agent: i64, generation: i64) {
        let Some(known) = self.at(source, agent) else { return };
        known.stepped = known.stepped.max(generation);
    }

    /// Whether any source has rows beside its base.
    pub(super) fn any_steps(&self) -> bool {
        let mut all = self.sources.values().flatten();
        all.any(|standing| standing.generation > 0 && standing.has_steps())
    }

    /// Calls `each` for each row with how its source stands.
    pub(super) fn each(
        &self,
        agents: &Int64Array,
        sources: &StringViewArray,
        mut each: impl FnMut(usize, Standing),
    ) {
        let mut last: Option<(&str, &[Standing])> = None;
        for row in 0..agents.len() {
            let name = sources.value(row);
            let states = match last {
                Some((known, states)) if known == name => states,
                _ => {
                    let states = self.sources.get(name).map_or(&[][..], Vec::as_slice);
                    last = Some((name, states));
                    states
                }
            };
            let agent = usize::try_from(agents.value(row)).unwrap_or(usize::MAX);
            each(row, states.get(agent).copied().unwrap_or_default());
        }
    }
}
