//! A simulated endpoint's tables: the agent's own names and columns, other rows.

use std::sync::{Arc, Mutex, PoisonError};

use muster_agent::table::{Column, Row, Rows, Scan, SharedTable, Table, Value};

use super::data::{self, Named};
use super::endpoint::Endpoint;

/// The endpoint whose tables an engine shows just now.
#[derive(Clone, Debug, Default)]
pub struct Current(Arc<Mutex<Option<Endpoint>>>);

impl Current {
    /// From now on this one.
    pub fn set(&self, endpoint: Endpoint) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(endpoint);
    }

    fn get(&self) -> Option<Endpoint> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

type Make = fn(&Endpoint) -> Vec<Named>;

const MAKERS: [(&str, Make); 11] = [
    ("processes", data::processes),
    ("listening_ports", data::listening_ports),
    ("process_open_sockets", data::process_open_sockets),
    ("users", data::users),
    ("logged_in_users", data::logged_in_users),
    ("os_version", data::os_version),
    ("system_info", data::system_info),
    ("interface_addresses", data::interface_addresses),
    ("file", data::file),
    ("hash", data::hash),
    ("crontab", data::crontab),
];

const CRONTAB: &[Column] = &[
    Column::text("event"),
    Column::text("minute"),
    Column::text("hour"),
    Column::text("day_of_month"),
    Column::text("month"),
    Column::text("day_of_week"),
    Column::text("command"),
    Column::text("path"),
];

/// The tables of whichever endpoint is current.
#[must_use]
pub fn tables(current: &Current) -> Vec<SharedTable> {
    let real = muster_agent::tables::all();
    let table = |(name, make): (&'static str, Make)| -> SharedTable {
        let columns = real.iter().find(|table| table.name() == name);
        let columns = columns.map_or(CRONTAB, |table| table.columns());
        Arc::new(Simulated { name, columns, make, current: current.clone() })
    };
    MAKERS.into_iter().map(table).collect()
}

/// Their names.
pub(super) fn names() -> Vec<&'static str> {
    MAKERS.iter().map(|(name, _)| *name).collect()
}

struct Simulated {
    name: &'static str,
    columns: &'static [Column],
    make: Make,
    current: Current,
}

impl Table for Simulated {
    fn name(&self) -> &'static str {
        self.name
    }

    fn columns(&self) -> &'static [Column] {
        self.columns
    }

    fn rows(&self, _scan: &Scan) -> Rows {
        let Some(endpoint) = self.current.get() else { return Box::new(std::iter::empty()) };
        let columns = self.columns;
        let rows = (self.make)(&endpoint).into_iter();
        Box::new(rows.map(move |named| in_order(columns, &named)))
    }
}

fn in_order(columns: &[Column], named: &Named) -> Row {
    let value = |column: &Column| {
        let found = named.iter().find(|(name, _)| *name == column.name);
        found.map_or(Value::Null, |(_, value)| value.clone())
    };
    columns.iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Fleet, Shape};
    use muster_agent::query::{Bounds, Engine};

    fn count(engine: &Engine, sql: &str) -> u64 {
        let bounds = Bounds { rows_max: 10_000, bytes_max: 1 << 24 };
        let answer = engine.run(sql, &[].into(), bounds, &mut |_, _| Ok(()));
        answer.result.unwrap();
        answer.row_count
    }

    #[test]
    fn plants_are_found_on_exactly_their_carriers_in_every_table_they_touch() {
        let plants =
            ["cron-dropper=3", "miner=2", "root-twin=1", "shell-listener=2", "deleted-binary=4"];
        let plants = plants.map(|text| text.parse().unwrap()).to_vec();
        let fleet = Fleet::new(7, &Shape { endpoints: 100, plants, ..Shape::default() });
        let current = Current::default();
        let engine = Engine::open(tables(&current), None).unwrap();
        let queries = [
            ("SELECT * FROM crontab WHERE command LIKE '%curl%'", 3),
            ("SELECT * FROM file WHERE path LIKE '/etc/cron.d/sys%'", 3),
            (
                "SELECT h.sha256 FROM file f JOIN hash h ON h.path = f.path \
              WHERE f.path = '/etc/cron.d/sysstat-update' AND h.sha256 IS NOT NULL",
                3,
            ),
            ("SELECT * FROM processes WHERE path LIKE '/dev/shm/%'", 2),
            ("SELECT * FROM process_open_sockets WHERE remote_port = 3333", 2),
            ("SELECT * FROM users WHERE uid = 0 AND username <> 'root'", 1),
            (
                "SELECT p.name FROM listening_ports l JOIN processes p USING (pid) \
              WHERE l.port = 31337",
                2,
            ),
            ("SELECT * FROM processes WHERE on_disk = 0", 4),
            ("SELECT * FROM os_version, system_info", 100),
        ];
        for (sql, expected) in queries {
            let found = (0..100).map(|number| {
                current.set(fleet.endpoint(number));
                count(&engine, sql)
            });
            assert_eq!(found.sum::<u64>(), expected, "{sql}");
        }
    }
}
