//! Details: the built-in questions every endpoint is asked, and the tables their answers go to.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use muster_artifact::{Column, Platform};
use muster_results::{RowClass, TableSpec};
use muster_types::ColumnDecl;
use serde::Deserialize;

/// One kind of thing that is known of every endpoint: a table, and who fills it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detail {
    /// Words joined by dots, for example `inventory.software`.
    pub name: String,
    /// Its table, when that is not the name with underscores.
    #[serde(default)]
    table: String,
    #[serde(skip, default = "no_table")]
    spec: Arc<TableSpec>,
    /// A few words for lists.
    pub title: String,
    /// What it holds and what to look for in it.
    pub description: String,
    /// When agents send it by their own schedule: how often. Else it is asked in rounds.
    #[serde(default)]
    pub interval_seconds: Option<u32>,
    /// Columns of the table.
    pub columns: Vec<Column>,
    /// The questions.
    pub sources: Vec<Source>,
}

/// One question of a [`Detail`]. Each has a current state of its own, so that a part that did not change is
/// not stored again.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Names it among the sources of one detail.
    #[serde(default)]
    part: String,
    /// The name its rows come under, for example `inventory.software.deb`.
    #[serde(skip)]
    pub name: String,
    /// Who is asked.
    #[serde(default = "everywhere")]
    pub platforms: Vec<Platform>,
    /// A table that not every agent of these platforms has: only those that have it are asked.
    #[serde(default)]
    pub needs: Option<String>,
    /// osquery's SQL.
    pub query: String,
    #[serde(skip)]
    text: Arc<str>,
}

impl Source {
    /// The question, shared.
    pub(crate) fn text(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }
}

fn no_table() -> Arc<TableSpec> {
    let (name, columns) = (String::new(), Vec::new());
    Arc::new(TableSpec { name, class: RowClass::Scheduled, columns, open: false })
}

fn everywhere() -> Vec<Platform> {
    Platform::ALL.to_vec()
}

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(include_str!(concat!("../details/", $name, ".yaml"))),*]
    };
}

const FILES: [&str; 9] =
    files!["agent", "disk", "flags", "interfaces", "os", "schedule", "software", "system", "users"];

struct Known {
    details: Vec<Detail>,
    tables: HashMap<String, Arc<TableSpec>>,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let read = |yaml: &&str| read(yaml).expect("built-in details are checked by a test");
    let details: Vec<Detail> = FILES.iter().map(read).collect();
    let mut tables = HashMap::new();
    for detail in &details {
        tables.extend(detail.sources.iter().map(|s| (s.name.clone(), detail.table_spec())));
    }
    Known { details, tables }
});

fn read(yaml: &str) -> Result<Detail, serde_norway::Error> {
    let mut detail: Detail = serde_norway::from_str(yaml)?;
    if detail.table.is_empty() {
        detail.table = muster_artifact::table_name(&detail.name);
    }
    for source in &mut detail.sources {
        source.name = match source.part.as_str() {
            "" => detail.name.clone(),
            part => format!("{}.{part}", detail.name),
        };
        source.query = source.query.trim().to_owned();
        source.text = source.query.as_str().into();
    }
    let decl = |c: &Column| ColumnDecl { name: c.name.clone(), kind: c.kind };
    detail.spec = Arc::new(TableSpec {
        columns: detail.columns.iter().map(decl).collect(),
        name: detail.table.clone(),
        ..TableSpec::clone(&no_table())
    });
    Ok(detail)
}

impl Detail {
    /// The name of its table in SQL.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Its table.
    #[must_use]
    pub fn table_spec(&self) -> Arc<TableSpec> {
        Arc::clone(&self.spec)
    }
}

/// All built-in details.
#[must_use]
pub fn details() -> &'static [Detail] {
    &KNOWN.details
}

/// The details that agents send by their own schedule: the configuration of every agent holds them.
pub fn scheduled_details() -> impl Iterator<Item = (&'static Detail, u32)> {
    details().iter().filter_map(|detail| Some((detail, detail.interval_seconds?)))
}

/// The table that rows under this name go to.
pub(crate) fn table_of(source: &str) -> Option<Arc<TableSpec>> {
    KNOWN.tables.get(source).cloned()
}

/// The questions that are asked in rounds, of agents on this platform; without one, those that every
/// platform has.
pub(crate) fn asked(platform: Option<Platform>) -> impl Iterator<Item = &'static Source> {
    let fits = move |source: &&Source| match platform {
        Some(platform) => source.platforms.contains(&platform),
        None => source.platforms.len() == Platform::ALL.len(),
    };
    let polled = details().iter().filter(|detail| detail.interval_seconds.is_none());
    polled.flat_map(|detail| &detail.sources).filter(fits)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_are_read_and_say_what_to_look_for() {
        for yaml in FILES {
            let detail = read(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
            assert!(detail.description.len() > 80, "{}", detail.name);
            assert!(detail.table.starts_with("inventory_"), "{}", detail.name);
        }
    }

    #[test]
    fn a_source_has_one_question_per_platform() {
        for platform in Platform::ALL {
            let mut seen = BTreeSet::new();
            for source in asked(Some(platform)) {
                assert!(seen.insert(&source.name), "{} twice on {platform}", source.name);
                assert!(table_of(&source.name).is_some());
            }
            for kind in ["system", "os", "users", "software.python", "interfaces", "disk"] {
                assert!(seen.contains(&format!("inventory.{kind}")), "{kind} on {platform}");
            }
        }
        assert!(asked(None).all(|source| source.platforms.len() == 3));
    }

    #[test]
    fn software_begins_with_its_name() {
        let spec = table_of("inventory.software.deb").unwrap();
        assert_eq!(
            (spec.name.as_str(), spec.columns[0].name.as_str()),
            ("inventory_software", "name")
        );
    }

    #[test]
    fn flags_come_by_the_schedule_only() {
        let scheduled: Vec<_> = scheduled_details().map(|(detail, _)| &*detail.name).collect();
        assert_eq!(scheduled, ["muster.flags"]);
        assert!(Platform::ALL.iter().all(|p| asked(Some(*p)).all(|s| s.name != "muster.flags")));
        assert_eq!(table_of("muster.flags").unwrap().name, "inventory_flags");
    }
}
