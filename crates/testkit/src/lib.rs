//! What tests share: real servers and stores, each test its own.

mod catalog;
mod cluster;
mod nats;
mod nats_node;
mod nats_program;
mod pause;
mod postgres;
mod s3;
mod server;

pub use catalog::TempCatalog;
pub use cluster::{
    Access, Cluster, ClusterOptions, Flow, Instance, InstanceOptions, Network, SkewedClock, Stores,
    Wire, dying, spawn,
};
pub use nats::{Nats, NatsOptions};
pub use nats_program::nats_program;
pub use postgres::{Postgres, free_port};
pub use s3::{S3, s3_program};
pub use server::{
    Server, ServerOptions, binary, other_binary, steady_port, steady_ports, wait_for,
};
