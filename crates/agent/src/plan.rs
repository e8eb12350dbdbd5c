//! The note that SQLite carries from planning to scanning, as text.

use crate::table::{Predicate, Value};

/// Which predicates will be handed to the scan, and which columns the statement reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) columns_used: u64,
}

/// One predicate, by column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Equal(usize),
    Like(usize),
}

impl Step {
    /// The predicate with its value; `None` when the value cannot narrow anything.
    pub(crate) fn predicate(self, value: &Value) -> Option<(usize, Predicate)> {
        match (self, value) {
            (Self::Equal(at), Value::Int(_) | Value::Text(_)) => {
                Some((at, Predicate::Equal(value.clone())))
            }
            (Self::Like(at), Value::Text(pattern)) => Some((at, Predicate::Like(pattern.clone()))),
            _ => None,
        }
    }
}

impl Plan {
    /// `1f|=0,~3`: the columns read, as a hexadecimal mask, then the steps.
    pub(crate) fn encode(&self) -> String {
        let steps: Vec<String> = self
            .steps
            .iter()
            .map(|step| match step {
                Step::Equal(at) => format!("={at}"),
                Step::Like(at) => format!("~{at}"),
            })
            .collect();
        format!("{:x}|{}", self.columns_used, steps.join(","))
    }

    /// Reads [`Plan::encode`]'s text. It never leaves the process, so what is odd is left out.
    pub(crate) fn decode(text: &str) -> Self {
        let (mask, steps) = text.split_once('|').unwrap_or(("", ""));
        let step = |word: &str| {
            let at = word.get(1..)?.parse().ok()?;
            Some(if word.starts_with('~') { Step::Like(at) } else { Step::Equal(at) })
        };
        Self {
            columns_used: u64::from_str_radix(mask, 16).unwrap_or(u64::MAX),
            steps: steps.split(',').filter_map(step).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_reads_back_as_it_was_written() {
        let plan = Plan { steps: vec![Step::Equal(0), Step::Like(17)], columns_used: 0xfeed };
        assert_eq!(Plan::decode(&plan.encode()), plan);
        assert_eq!(Plan::decode(&Plan::default().encode()), Plan::default());
    }
}
