//! How the state of each agent's sources stands, by the marks.

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

/// All of them. Agents are numbered densely, sources are few.
#[derive(Debug, Default)]
pub(super) struct Standings {
    sources: Vec<(String, Vec<Standing>)>,
}

impl Standings {
    fn source(&self, name: &str) -> Option<usize> {
        self.sources.iter().position(|(known, _)| known == name)
    }

    fn at(&mut self, source: &str, agent: i64) -> Option<&mut Standing> {
        let slot = self.source(source).unwrap_or_else(|| {
            self.sources.push((source.to_owned(), Vec::new()));
            self.sources.len() - 1
        });
        let agent = u32::try_from(agent).ok()? as usize;
        let agents = &mut self.sources[slot].1;
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
        let mut all = self.sources.iter().flat_map(|(_, agents)| agents);
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
                    let states = self.source(name).map_or(&[][..], |slot| &self.sources[slot].1);
                    last = Some((name, states));
                    states
                }
            };
            let agent = usize::try_from(agents.value(row)).unwrap_or(usize::MAX);
            each(row, states.get(agent).copied().unwrap_or_default());
        }
    }
}
