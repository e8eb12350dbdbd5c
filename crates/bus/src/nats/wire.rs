//! Subjects.

use std::sync::Arc;

use serde_json::Value;

use crate::Topic;

/// The subjects of one installation.
#[derive(Clone, Debug)]
pub(super) struct Subjects(Arc<str>);

impl Subjects {
    pub(super) fn new(prefix: &str) -> Self {
        Self(format!("{prefix}.b").into())
    }

    /// `muster.b.hunts`, `muster.b.live.7`: from the topic's name, so that a new topic has one.
    pub(super) fn of(&self, topic: &Topic) -> String {
        let name = match serde_json::to_value(topic) {
            Ok(Value::String(name)) => name,
            Ok(Value::Object(fields)) => {
                let parts = fields.iter().map(|(name, value)| {
                    let value = value.to_string();
                    format!("{name}.{}", value.trim_matches('"'))
                });
                parts.collect::<Vec<_>>().join(".")
            }
            _ => "other".to_owned(),
        };
        format!("{}.t.{name}", self.0)
    }

    /// Where an instance tells the others that it lost hints.
    pub(super) fn gap(&self) -> String {
        format!("{}.gap", self.0)
    }

    /// Where nobody listens.
    pub(super) fn nobody(&self) -> String {
        format!("{}.nobody", self.0)
    }
}

#[cfg(test)]
mod tests {
    use muster_types::{HuntNo, Shard};

    use super::*;

    #[test]
    fn every_topic_has_a_subject_of_its_own() {
        let subjects = Subjects::new("muster");
        let stream = Topic::Stream(Shard::new(3).unwrap());
        assert_eq!(subjects.of(&Topic::Hunts), "muster.b.t.hunts");
        assert_eq!(subjects.of(&Topic::Live(HuntNo(7))), "muster.b.t.live.7");
        assert_eq!(subjects.of(&stream), "muster.b.t.stream.3");
    }
}
