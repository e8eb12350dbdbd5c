//! Where to listen: an address and a port or a range of ports.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An address with a port or a range, `127.0.0.1:8443` or `[::]:8443-8449`. Port 0 is any free one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address; `::` also takes IPv4.
    pub address: IpAddr,
    /// Tried in order.
    pub ports: RangeInclusive<u16>,
}

/// A port that was skipped because somebody has it.
#[derive(Clone, Debug)]
pub struct Skipped {
    /// The port.
    pub port: u16,
    /// The program that has it, where that can be seen.
    pub owner: Option<String>,
}

/// Why no port could be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// All are taken.
    #[error(
        "every port of {listen} is in use ({taken}); stop one of them or set another range in the configuration"
    )]
    AllTaken {
        /// What was asked for.
        listen: Listen,
        /// Who has which.
        taken: String,
    },
    /// Something else is wrong with the address.
    #[error("cannot listen on {address}")]
    Io {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

impl Listen {
    /// Binds the first free port and says which ones were skipped.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(&self) -> Result<(std::net::TcpListener, Vec<Skipped>), BindError> {
        let mut skipped = Vec::new();
        for port in self.ports.clone() {
            let address = SocketAddr::new(self.address, port);
            match bind_one(address) {
                Ok(listener) => return Ok((listener, skipped)),
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                    skipped.push(Skipped { port, owner: super::port_owner::owner_of(port) });
                }
                Err(source) => return Err(BindError::Io { address, source }),
            }
        }
        let taken: Vec<String> = skipped.iter().map(ToString::to_string).collect();
        Err(BindError::AllTaken { listen: self.clone(), taken: taken.join(", ") })
    }
}

/// Binds with a deep backlog: a burst of agents waits in the kernel instead of being refused.
fn bind_one(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

    // A machine without IPv6 still gets its IPv4 listener.
    let open = |address: SocketAddr| {
        let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        socket_with(family, SocketType::STREAM, flags, None).map(|socket| (socket, address))
    };
    let (socket, address) = match open(address) {
        Err(rustix::io::Errno::AFNOSUPPORT) if address.ip().is_unspecified() => {
            open(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))?
        }
        other => other?,
    };
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    bind(&socket, &address)?;
    listen(&socket, 16_384)?;
    Ok(socket.into())
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Some(owner) => write!(f, "{} is used by {owner}", self.port),
            None => write!(f, "{} is used by a program of another user", self.port),
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "{text:?} is no address with ports; write for example \"127.0.0.1:8443\" or \"[::]:8443-8449\""
            )
        };
        let (address, ports) = text.rsplit_once(':').ok_or_else(bad)?;
        let address = address.trim_start_matches('[').trim_end_matches(']');
        let address = address.parse().map_err(|_| bad())?;
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let first: u16 = first.parse().map_err(|_| bad())?;
        let last: u16 = last.parse().map_err(|_| bad())?;
        if first > last || (first == 0 && last != 0) || last - first > 1000 {
            return Err(bad());
        }
        Ok(Self { address, ports: first..=last })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = SocketAddr::new(self.address, *self.ports.start());
        if self.ports.start() == self.ports.end() {
            write!(f, "{first}")
        } else {
            write!(f, "{first}-{}", self.ports.end())
        }
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Listen {
    fn schema_name() -> Cow<'static, str> {
        "Listen".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "examples": ["[::]:8443-8449"]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms() {
        for text in ["127.0.0.1:8443", "[::]:8443-8449", "127.0.0.1:0"] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
        for bad in ["8443", "localhost:1", "127.0.0.1:9-8", "127.0.0.1:0-9", "1.2.3.4:1-9999"] {
            assert!(bad.parse::<Listen>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_port_in_use_is_skipped_and_its_owner_named() {
        let first: Listen = "127.0.0.1:0".parse().unwrap();
        let (held, _) = first.bind().unwrap();
        let port = held.local_addr().unwrap().port();
        let range = Listen { address: first.address, ports: port..=port.saturating_add(20) };
        let (taken, skipped) = range.bind().unwrap();
        assert_ne!(taken.local_addr().unwrap().port(), port);
        assert_eq!(skipped[0].port, port);
        let owner = skipped[0].owner.as_deref().unwrap();
        assert!(owner.contains(&format!("pid {}", std::process::id())), "{owner}");

        let only = Listen { address: first.address, ports: port..=port };
        let error = only.bind().unwrap_err().to_string();
        assert!(error.contains("in use") && error.contains(&port.to_string()), "{error}");
    }
}
