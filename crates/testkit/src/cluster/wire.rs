//! Wires between an instance and a store, and from agents to instances: TCP that can be made silent or
//! cut.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::network::Network;
use super::stores::Stores;

/// What a wire does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It carries.
    Open,
    /// Nothing comes through and nothing is told, as when packets are dropped. What was under way is
    /// delivered once it is open again.
    Silent,
    /// Connections break and new ones are closed at once.
    Cut,
}

/// One wire; it ends when this is dropped.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    flow: watch::Sender<Flow>,
}

impl Wire {
    /// Listens at `at` (port 0: any) and leads to one of `to` after the other, passing over those where
    /// nobody listens: a balancer of the plainest kind. Runs on the runtime it is called in.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn lay(at: SocketAddr, to: &[SocketAddr]) -> std::io::Result<Self> {
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        let (flow, watched) = watch::channel(Flow::Open);
        tokio::spawn(serve(listener, to.into(), watched));
        Ok(Self { address, flow })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what it does, for all its connections.
    pub fn set(&self, flow: Flow) {
        self.flow.send_replace(flow);
    }
}

/// Until the wire is dropped.
async fn serve(listener: TcpListener, to: Arc<[SocketAddr]>, mut flow: watch::Receiver<Flow>) {
    let (mut connections, mut turn) = (JoinSet::new(), 0);
    loop {
        // While it is silent the kernel queues who comes.
        if flow.wait_for(|flow| *flow != Flow::Silent).await.is_err() {
            return;
        }
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((near, _)) = accepted else { continue };
                if *flow.borrow() == Flow::Cut {
                    let _ = near.set_zero_linger();
                } else {
                    turn += 1;
                    connections.spawn(connect(near, Arc::clone(&to), turn, flow.clone()));
                }
            }
            changed = flow.changed() => if changed.is_err() { return },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connect(near: TcpStream, to: Arc<[SocketAddr]>, turn: usize, flow: watch::Receiver<Flow>) {
    let mut found = None;
    for next in to.iter().cycle().skip(turn % to.len().max(1)).take(to.len()) {
        if let Ok(far) = TcpStream::connect(next).await {
            found = Some(far);
            break;
        }
    }
    let Some(far) = found else {
        // Who dials learns what they would have: nobody listens.
        let _ = near.set_zero_linger();
        return;
    };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::join!(pump(near_in, far_out, flow.clone()), pump(far_in, near_out, flow));
}

/// One direction, until its end.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut flow: watch::Receiver<Flow>) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        match flow.wait_for(|flow| *flow != Flow::Silent).await.map(|flow| *flow) {
            Ok(Flow::Cut) | Err(_) => break,
            Ok(_) => {}
        }
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            _ = flow.changed() => continue,
        };
        let Ok(len) = read else { break };
        if len == 0 {
            let _ = to.shutdown().await;
            return;
        }
        let written = tokio::select! {
            written = to.write_all(&buffer[..len]) => written.is_ok(),
            _ = flow.wait_for(|flow| *flow == Flow::Cut) => false,
        };
        if !written {
            break;
        }
    }
    for socket in [from.as_ref(), to.as_ref()] {
        let _ = socket.set_zero_linger();
    }
    let _ = to.shutdown().await;
}

/// All wires of a cluster, with the thread they run on.
pub(super) struct Wires {
    laid: HashMap<(usize, String), Wire>,
    balancer: Option<Wire>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Wires {
    pub(super) fn new() -> anyhow::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build()?;
        Ok(Self { laid: HashMap::new(), balancer: None, runtime: Some(runtime) })
    }

    /// One address for all of `to`.
    pub(super) fn balance(&mut self, to: &[SocketAddr]) -> anyhow::Result<()> {
        let runtime = self.runtime.as_ref().context("the wires' runtime")?;
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        self.balancer = Some(runtime.block_on(Wire::lay(at, to))?);
        Ok(())
    }

    pub(super) fn balancer(&self) -> Option<SocketAddr> {
        self.balancer.as_ref().map(Wire::address)
    }

    /// One wire to each store for an instance.
    pub(super) fn lay(
        &mut self,
        stores: &Stores,
        network: &Network,
        instance: usize,
    ) -> anyhow::Result<()> {
        let runtime = self.runtime.as_ref().context("the wires' runtime")?;
        for (index, door) in stores.doors.iter().enumerate() {
            let at = network.near_end(instance, index + 1);
            let wire = runtime.block_on(Wire::lay(SocketAddr::new(at, 0), &[door.address]));
            let wire = wire.with_context(|| format!("a wire at {at}"))?;
            self.laid.insert((instance, door.name.clone()), wire);
        }
        Ok(())
    }

    pub(super) fn address(&self, instance: usize, door: &str) -> Option<SocketAddr> {
        self.laid.get(&(instance, door.to_owned())).map(Wire::address)
    }

    pub(super) fn set(&self, instance: usize, door: &str, flow: Flow) -> anyhow::Result<()> {
        let wire = self.laid.get(&(instance, door.to_owned()));
        wire.context("this cluster was started without partitions")?.set(flow);
        Ok(())
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn echo() -> std::io::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = socket.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        Ok(address)
    }

    async fn say(socket: &mut TcpStream, word: &[u8; 4]) -> std::io::Result<()> {
        socket.write_all(word).await?;
        let mut heard = [0; 4];
        socket.read_exact(&mut heard).await?;
        assert_eq!(heard, *word);
        Ok(())
    }

    #[tokio::test]
    async fn a_silent_wire_delivers_later_and_a_cut_one_breaks() -> anyhow::Result<()> {
        let wire = Wire::lay(SocketAddr::from(([127, 0, 0, 1], 0)), &[echo().await?]).await?;
        let mut socket = TcpStream::connect(wire.address()).await?;
        say(&mut socket, b"open").await?;
        wire.set(Flow::Silent);
        let silent = tokio::time::timeout(Duration::from_millis(50), say(&mut socket, b"hush"));
        assert!(silent.await.is_err());
        wire.set(Flow::Open);
        let mut heard = [0; 4];
        socket.read_exact(&mut heard).await?;
        assert_eq!(&heard, b"hush");
        wire.set(Flow::Cut);
        let ended = socket.read(&mut heard).await;
        assert!(!matches!(ended, Ok(1..)), "{ended:?}");
        wire.set(Flow::Open);
        say(&mut TcpStream::connect(wire.address()).await?, b"anew").await?;
        Ok(())
    }
}
