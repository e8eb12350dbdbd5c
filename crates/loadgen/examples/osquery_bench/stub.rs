//! The listener and the lean HTTP server, with a service that knows one answer.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use clap::Args;
use muster_gateway::http::{
    Answer, Called, Head, Over, Plan, Read, Request, Room, Server, Service, Source,
};
use muster_gateway::listener::{ListenerOptions, serve};
use muster_gateway::{Budget, Metrics};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;

/// How the stub is started.
#[derive(Args)]
pub struct Options {
    /// Where to listen.
    #[arg(long)]
    port: u16,
    /// The certificate (PEM).
    #[arg(long)]
    certificate: PathBuf,
    /// Its key (PEM).
    #[arg(long)]
    key: PathBuf,
}

struct Nothing;

impl Service for Nothing {
    fn claims(&self, method: &str, path: &str) -> bool {
        method == "POST" && path == super::load::PATH
    }

    fn plan(&self, _: &Head<'_>, _: &Source) -> Plan {
        let over = Over::Answer(Answer::new(413, Bytes::from_static(b"{\"error\":\"too large\"}")));
        Plan::Read(Read { max: 1 << 20, over, room: Room::Uncounted })
    }

    fn call(&self, _: Request<'_>) -> Called {
        Called::Ready(Answer::ok(Bytes::from_static(super::load::ANSWER.as_bytes())))
    }
}

/// Serves until standard input ends.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let chain = CertificateDer::pem_file_iter(&options.certificate)?.collect::<Result<_, _>>()?;
    let mut tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(&options.key)?)?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    // As Muster's own.
    tls.send_tls13_tickets = 0;
    tls.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(cores).enable_all().build()?;
    let shutdown = CancellationToken::new();
    let port = options.port;
    let serving = runtime.spawn({
        let shutdown = shutdown.clone();
        async move {
            let listener = std::net::TcpListener::bind(("127.0.0.1", port))?;
            listener.set_nonblocking(true)?;
            // As Muster's own: a burst waits in the kernel.
            rustix::net::listen(&listener, 16_384)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let options = ListenerOptions::default();
            let server = Server::new(Nothing, Budget::new(Budget::DEFAULT_BYTES), options.clone());
            let (tls, router) = (Arc::new(ArcSwap::from_pointee(tls)), server.router());
            let metrics = Arc::new(Metrics::default());
            serve(listener, tls, options, vec![server], router, metrics, shutdown).await;
            anyhow::Ok(())
        }
    });
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    shutdown.cancel();
    runtime.block_on(serving)?
}
