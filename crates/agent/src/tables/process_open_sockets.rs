//! `process_open_sockets`: every socket, with the process and descriptor that hold it.

use crate::table::{Column, Row, Rows, Scan, Table, Value};

use super::sockets::{self, Socket};

/// The table.
pub(super) struct ProcessOpenSockets;

const COLUMNS: &[Column] = &[
    Column::int("pid").index(),
    Column::big("fd"),
    Column::big("socket"),
    Column::int("family"),
    Column::int("protocol"),
    Column::text("local_address"),
    Column::text("remote_address"),
    Column::int("local_port"),
    Column::int("remote_port"),
    Column::text("path"),
    Column::text("state"),
    Column::text("net_namespace"),
];

impl Table for ProcessOpenSockets {
    fn name(&self) -> &'static str {
        "process_open_sockets"
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn rows(&self, scan: &Scan) -> Rows {
        Box::new(sockets::all(scan.equals_int(0)).into_iter().map(row))
    }
}

fn row(socket: Socket) -> Row {
    vec![
        socket.pid.into(),
        socket.fd.into(),
        socket.inode.into(),
        socket.family.into(),
        socket.protocol.into(),
        Value::from(socket.local_address),
        Value::from(socket.remote_address),
        socket.local_port.into(),
        socket.remote_port.into(),
        Value::from(socket.path),
        Value::from(socket.state),
        Value::from(socket.net_namespace),
    ]
}
