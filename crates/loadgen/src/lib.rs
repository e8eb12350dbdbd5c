//! Simulated fleets: many agents, honest in what they cost, with planted evidence that is known
//! exactly beforehand.
//!
//! Everything about a simulated endpoint follows from the seed and its number: name, key, processes,
//! users, files. A plant (see [`Plant`]) stands on an exact number of endpoints, chosen by the seed,
//! so that a hunt's counts can be checked to the last row. Each agent enrols with its own key, holds
//! its own link and answers queries through the agent's own SQL engine over the endpoint's tables.
//!
//! [`osquery`] is a fleet of osquery agents, which speak their own protocol in their own way.

mod agent;
mod answer;
mod control;
mod fleet;
mod lies;
mod native;
mod options;
mod osquery;
mod report;
mod unacked;

pub use control::Word;
pub use fleet::{Current, Endpoint, Fleet, Plant, PlantCount, Shape, UnknownPlant, tables};
pub use lies::MARK;
pub use native::{native, run};
pub use options::NativeOptions;
pub use osquery::{
    Endpoint as OsqueryEndpoint, OsqueryOptions, OsqueryReport, osquery, run as run_osquery,
};
pub use report::{Acked, Report, Summary, TaskTimes};
