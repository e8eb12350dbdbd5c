//! Network namespaces: one per instance, with a link to the world and one to each store.
//!
//! A link is a veth pair. Its near end is in the namespace of the test, where agents, operators and the
//! stores are; its far end is the instance's. Taking the near end down drops every packet of exactly this
//! pair in silence: the instance keeps its address and its route, and hears nothing. Namespaces have
//! no name and are held by a process that ends with the test, so that nothing is left behind.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, ensure};

use super::spawn;

/// Ports of the operators', agents' and metrics listeners in each namespace.
pub(super) const PORTS: [u16; 3] = [8443, 8444, 9100];

/// Where instances are.
#[derive(Debug)]
pub enum Network {
    /// On loopback, each with ports of its own.
    Loopback,
    /// In namespaces, in the order of the instances.
    Namespaces(Vec<Namespace>),
}

/// One instance's namespace; it goes when its holder ends.
#[derive(Debug)]
pub struct Namespace {
    /// Third and second byte of its addresses.
    net: u32,
    holder: Child,
}

impl Network {
    /// Whether namespaces can be made here, and why not.
    ///
    /// # Errors
    /// With a sentence for whoever reads the test's output.
    pub fn available() -> anyhow::Result<()> {
        ensure!(rustix::process::geteuid().is_root(), "network namespaces need root");
        let mut probe = Command::new("unshare");
        let status = probe.args(["--net", "true"]).stderr(Stdio::null()).status();
        ensure!(
            status.is_ok_and(|status| status.success()),
            "unshare cannot make a network namespace here"
        );
        let version = Command::new("ip").arg("-V").stdout(Stdio::null()).status();
        ensure!(
            version.is_ok_and(|status| status.success()),
            "there is no ip program (Debian: apt-get install iproute2)"
        );
        Ok(())
    }

    /// So many namespaces, each with a link to the world and `stores` more.
    pub(super) fn namespaces(count: usize, stores: usize) -> anyhow::Result<Self> {
        Self::available()?;
        let made = (0..count).map(|_| Namespace::make(stores + 1));
        Ok(Self::Namespaces(made.collect::<anyhow::Result<_>>()?))
    }

    /// The test's end of an instance's link; link 0 is the world.
    pub(super) fn near_end(&self, instance: usize, link: usize) -> IpAddr {
        match self {
            Self::Loopback => Ipv4Addr::LOCALHOST.into(),
            Self::Namespaces(namespaces) => namespaces[instance].address(link, 1).into(),
        }
    }

    /// Where an instance is reached from the world.
    pub(super) fn host(&self, instance: usize) -> IpAddr {
        match self {
            Self::Loopback => Ipv4Addr::LOCALHOST.into(),
            Self::Namespaces(namespaces) => namespaces[instance].address(0, 2).into(),
        }
    }

    /// What a program of an instance is started with.
    pub(super) fn prefix(&self, instance: usize) -> Vec<String> {
        match self {
            Self::Loopback => Vec::new(),
            Self::Namespaces(namespaces) => {
                vec!["nsenter".to_owned(), format!("--net={}", namespaces[instance].path())]
            }
        }
    }

    /// Takes a link down, or up again.
    pub(super) fn set(&self, instance: usize, link: usize, up: bool) -> anyhow::Result<()> {
        let Self::Namespaces(namespaces) = self else { return Ok(()) };
        let name = namespaces[instance].near_name(link);
        ip(&["link", "set", &name, if up { "up" } else { "down" }])
    }
}

impl Namespace {
    fn make(links: usize) -> anyhow::Result<Self> {
        let mut hold = spawn::prefixed(&["unshare".to_owned(), "--net".to_owned()], "sh".as_ref());
        hold.args(["-c", "echo held; read -r _"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = spawn::spawn(hold)?;
        let mut held = [0; 5];
        let said = holder.stdout.as_mut().context("the holder's output")?;
        std::io::Read::read_exact(said, &mut held).context("hold a namespace")?;
        let namespace = Self { net: unused_net()?, holder };
        let pid = namespace.holder.id().to_string();
        namespace.inside(&["link", "set", "lo", "up"])?;
        for link in 0..links {
            let (near, far) = (namespace.near_name(link), format!("eth{link}"));
            ip(&["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", &pid])?;
            let address = |end| format!("{}/30", namespace.address(link, end));
            ip(&["addr", "add", &address(1), "dev", &near])?;
            ip(&["link", "set", &near, "up"])?;
            namespace.inside(&["addr", "add", &address(2), "dev", &far])?;
            namespace.inside(&["link", "set", &far, "up"])?;
        }
        Ok(namespace)
    }

    /// An address of a link: end 1 is the test's, end 2 the instance's.
    fn address(&self, link: usize, end: u8) -> Ipv4Addr {
        let [_, _, high, low] = self.net.to_be_bytes();
        let link = u8::try_from(link).unwrap_or(u8::MAX / 4);
        Ipv4Addr::new(10, 64 + high, low, link * 4 + end)
    }

    /// At most 15 bytes.
    fn near_name(&self, link: usize) -> String {
        format!("mu{:x}l{link}", self.net)
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    fn inside(&self, args: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg("ip").args(args);
        done(command)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The kernel clears the namespace away, links and all, soon after its last process; the links' near
        // ends are taken at once.
        for link in 0..64 {
            if ip(&["link", "del", &self.near_name(link)]).is_err() {
                break;
            }
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A /24 that nobody here uses.
fn unused_net() -> anyhow::Result<u32> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..1000 {
        let net = (std::process::id() * 16 + NEXT.fetch_add(1, Ordering::Relaxed)) % (60 << 8);
        let [_, _, high, low] = net.to_be_bytes();
        let range = format!("10.{}.{low}.0/24", 64 + high);
        let output = Command::new("ip").args(["-4", "addr", "show", "to", &range]).output()?;
        if output.stdout.is_empty() {
            return Ok(net);
        }
    }
    anyhow::bail!("no network is free")
}

fn ip(args: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("ip");
    command.args(args);
    done(command)
}

fn done(mut command: Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {told}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_link_that_is_down_is_silent_and_heals() -> anyhow::Result<()> {
        if let Err(why) = Network::available() {
            eprintln!("skipped: {why}");
            return Ok(());
        }
        let network = Network::namespaces(1, 1)?;
        let listener = std::net::TcpListener::bind((network.near_end(0, 1), 0))?;
        let target = listener.local_addr()?;
        let dial = |wait: &str| {
            let mut command = spawn::prefixed(&network.prefix(0), "timeout".as_ref());
            command.args([wait, "bash", "-c"]);
            command.arg(format!("exec 3<>/dev/tcp/{}/{}", target.ip(), target.port()));
            command.stderr(Stdio::null()).status().map(|status| status.success())
        };
        assert!(dial("5")?);
        network.set(0, 1, false)?;
        assert!(!dial("0.3")?);
        network.set(0, 1, true)?;
        // The first packet of a dial may fall into the moment the link comes up.
        let within = Duration::from_secs(10);
        crate::wait_for("the link to heal", within, || Ok(dial("2")?.then_some(())))?;
        drop(network);
        assert!(TcpStream::connect_timeout(&target, Duration::from_millis(100)).is_err());
        Ok(())
    }
}
