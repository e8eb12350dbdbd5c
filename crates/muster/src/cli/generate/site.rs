//! What stands behind a balancer, and how the balancer treats it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::servers::{alive, of_config};
use crate::cli::args::ServerArgs;
use crate::cli::session::Session;
use crate::client::CliError;
use crate::config::{Config, ListenerName};

/// What the API and agents send at most in one request, as our own bounds have it: a change is a
/// mebibyte; of the log of an osquery agent what is too long is cut, not refused, so that it can go on.
pub const BODY_MIB: [u64; 2] = [2, 64];

/// Longer than any balancer keeps an idle connection to an instance, or needs to notice that it goes.
const DRAIN_DELAY: std::time::Duration = std::time::Duration::from_secs(5);

/// Flags of `muster generate nginx|apache|haproxy`.
#[derive(Args, Default)]
pub struct Balancer {
    /// Configuration file (YAML) of the instances; else the instances that are alive are asked for.
    #[arg(long, short = 'c', env = "MUSTER_CONFIG")]
    pub config: Option<PathBuf>,
    /// An instance, as the balancer reaches it (repeatable): HOST with the ports of the configuration
    /// file, or HOST:OPERATORS,AGENTS with ports of its own.
    #[arg(long = "instance", value_name = "HOST[:PORT,PORT]")]
    pub instances: Vec<String>,
    /// Where TLS ends. Default: mixed; end for apache, which cannot pass it.
    #[arg(long, value_enum)]
    pub tls: Option<Tls>,
    /// Say whose connection it is by the PROXY protocol where TLS is passed. Follows
    /// `listeners.proxy_protocol` of the configuration file when there is one.
    #[arg(long)]
    pub proxy_protocol: bool,
    /// The certificate chain (PEM) where TLS ends here; its key is beside it, with `.key` added.
    #[arg(long, default_value = "/etc/muster/balancer.pem")]
    pub certificate: String,
    /// The installation's CA (PEM), by which instances are believed.
    #[arg(long, default_value = "/etc/muster/ca.pem")]
    pub ca: String,
    /// A name that is in the certificate of every instance. Default: the first of `names` of the
    /// configuration file, else localhost.
    #[arg(long)]
    pub name: Option<String>,
    /// Address to listen on. Default: all.
    #[arg(long)]
    pub bind: Option<std::net::IpAddr>,
    /// Port for people and programs.
    #[arg(long, default_value_t = 443)]
    pub operators_port: u16,
    /// Port for agents.
    #[arg(long, default_value_t = 8453)]
    pub agents_port: u16,
}

/// Where TLS ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tls {
    /// At the instances, for everybody: the balancer passes connections.
    Pass,
    /// At the balancer, for everybody: it passes requests.
    End,
    /// At the balancer for people, at the instances for agents.
    Mixed,
}

/// What a balancer's file is made from.
#[derive(Debug)]
pub struct Site {
    /// People and programs.
    pub operators: Side,
    /// Agents.
    pub agents: Side,
    /// Certificate chain where TLS ends here.
    pub certificate: String,
    /// The CA of the instances.
    pub ca: String,
    /// The name in their certificates.
    pub name: String,
    /// Seconds an answer may take to begin.
    pub answer_s: u64,
}

/// One listener of all instances.
#[derive(Debug)]
pub struct Side {
    /// `operators` or `agents`.
    pub name: &'static str,
    /// Address to listen on, when not all.
    pub bind: Option<std::net::IpAddr>,
    /// Port to listen on.
    pub port: u16,
    /// `HOST:PORT` of each instance.
    pub servers: Vec<String>,
    /// TLS ends here.
    pub ends: bool,
    /// Instances take what comes from here without TLS.
    pub is_plain: bool,
    /// Whose connection it is is said by the PROXY protocol.
    pub proxy_protocol: bool,
    /// Longest body.
    pub body_mib: u64,
}

impl Side {
    /// `ADDRESS:PORT`, or the port with this before it.
    pub fn listen(&self, all: &str) -> String {
        match self.bind {
            Some(address) => std::net::SocketAddr::new(address, self.port).to_string(),
            None => format!("{all}{}", self.port),
        }
    }

    /// Names for servers, as their order has them.
    pub fn numbered(&self) -> impl Iterator<Item = (String, &String)> {
        self.servers.iter().enumerate().map(|(no, server)| (format!("muster{}", no + 1), server))
    }
}

impl Balancer {
    /// Finds out what there is.
    ///
    /// # Errors
    /// When that is nothing.
    pub async fn site(
        &self,
        default: Tls,
        session: impl Fn() -> Result<Session, CliError>,
    ) -> Result<Site, CliError> {
        let tls = self.tls.unwrap_or(default);
        let config = match &self.config {
            Some(_) => {
                let args = ServerArgs { config: self.config.clone(), ..ServerArgs::default() };
                Some(crate::cli::config::load(&args)?)
            }
            None => None,
        };
        if self.config.is_none() && self.proxy_protocol && tls == Tls::End {
            return Err(CliError::usage("--proxy-protocol is for TLS that is passed"));
        }
        let found = match (&config, self.instances.is_empty()) {
            (Some(config), _) => of_config(config, &self.instances)?,
            (None, false) => of_config(&Config::default(), &self.instances)?,
            (None, true) => alive(&session()?).await?,
        };
        let site = self.of(config.as_ref(), found, tls);
        if let Some(config) = &config
            && config.drain.delay.0 < DRAIN_DELAY
        {
            eprintln!(
                "drain.delay is {}: an instance that stops leaves requests on their way to it without an \
                 answer; write at least {}",
                config.drain.delay,
                crate::config::Span(DRAIN_DELAY)
            );
        }
        for side in [&site.operators, &site.agents] {
            if side.ends && side.proxy_protocol {
                let message = format!(
                    "the configuration has the {0} listener expect PROXY headers, which are not for \
                     requests: where TLS ends at the balancer one connection carries those of many; \
                     leave {0} out of listeners.proxy_protocol_on, or pass TLS on",
                    side.name
                );
                return Err(CliError::usage(message));
            }
        }
        Ok(site)
    }

    /// The site of these servers: for operators, then for agents.
    pub fn of(&self, config: Option<&Config>, found: [Vec<String>; 2], tls: Tls) -> Site {
        let listeners = config.map(|config| &config.listeners);
        let by_header = |name, passes: bool| match listeners {
            Some(listeners) => !listeners.balancers(name).is_empty(),
            None => passes && self.proxy_protocol,
        };
        let is_plain = |name| listeners.is_some_and(|listeners| listeners.plain.contains(&name));
        let [operators, agents] = found;
        let side = |name, word, port, servers, ends, body_mib| Side {
            name: word,
            bind: self.bind,
            port,
            servers,
            ends,
            is_plain: ends && is_plain(name),
            proxy_protocol: by_header(name, !ends),
            body_mib,
        };
        Site {
            operators: side(
                ListenerName::Operators,
                "operators",
                self.operators_port,
                operators,
                tls != Tls::Pass,
                BODY_MIB[0],
            ),
            agents: side(
                ListenerName::Agents,
                "agents",
                self.agents_port,
                agents,
                tls == Tls::End,
                BODY_MIB[1],
            ),
            certificate: self.certificate.clone(),
            ca: self.ca.clone(),
            name: self.name.clone().unwrap_or_else(|| {
                let names = config.map(|config| config.names.as_slice()).unwrap_or_default();
                names.first().cloned().unwrap_or_else(|| "localhost".to_owned())
            }),
            answer_s: config.map_or(120, |config| config.sql.time.0.as_secs()) + 30,
        }
    }
}
