//! HTTP proxies: which one to take, and CONNECT through it.

use std::fmt;
use std::io;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::url::{BadUrl, ServerUrl};

/// A proxy's answer may not be longer.
const ANSWER_BYTES_MAX: usize = 8 << 10;

/// An HTTP proxy: `http://user:password@name:port`.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    pub(super) at: ServerUrl,
    credentials: Option<String>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("at", &self.at.authority()).finish_non_exhaustive()
    }
}

impl Proxy {
    /// Reads `http://user:password@name:port`; scheme and user may be missing.
    ///
    /// # Errors
    /// [`BadUrl`].
    pub fn parse(text: &str) -> Result<Self, BadUrl> {
        let text = text.trim();
        let rest = text.strip_prefix("http://").unwrap_or(text);
        let (credentials, authority) = match rest.rsplit_once('@') {
            Some((credentials, authority)) => (Some(percent_decode(credentials)), authority),
            None => (None, rest),
        };
        Ok(Self { at: authority.parse()?, credentials })
    }

    /// Opens a tunnel to `target` through a connection to the proxy.
    pub(super) async fn connect(&self, stream: &mut TcpStream, target: &str) -> io::Result<()> {
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(credentials) = &self.credentials {
            let encoded = STANDARD.encode(credentials);
            request.push_str(&format!("Proxy-Authorization: Basic {encoded}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;
        // Byte by byte: what follows the empty line belongs to TLS already.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() == ANSWER_BYTES_MAX {
                return Err(io::Error::other("the proxy's answer does not end"));
            }
            head.push(stream.read_u8().await?);
        }
        let line = String::from_utf8_lossy(&head);
        let line = line.lines().next().unwrap_or_default().to_owned();
        let status = line.split_whitespace().nth(1).unwrap_or_default();
        if status.starts_with('2') {
            Ok(())
        } else {
            Err(io::Error::other(format!("the proxy refused: {line}")))
        }
    }
}

/// Which proxy to take for which server.
#[derive(Clone, Debug, Default)]
pub struct ProxyRules {
    proxy: Option<Proxy>,
    direct: Vec<String>,
}

impl ProxyRules {
    /// The explicit proxy; without one what `https_proxy` and `no_proxy` say, in either case, and this
    /// machine itself is reached directly.
    ///
    /// # Errors
    /// [`BadUrl`] for a proxy that cannot be read.
    pub fn new(
        explicit: Option<&str>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, BadUrl> {
        let either = |name: &str| {
            let found = variable(name).or_else(|| variable(&name.to_ascii_uppercase()));
            found.filter(|value| !value.trim().is_empty())
        };
        if let Some(explicit) = explicit {
            return Ok(Self { proxy: Some(Proxy::parse(explicit)?), direct: Vec::new() });
        }
        let proxy = either("https_proxy").map(|text| Proxy::parse(&text)).transpose()?;
        let direct = either("no_proxy").unwrap_or_default();
        let direct = direct.split(',').map(|entry| entry.trim().to_ascii_lowercase());
        let own = ["localhost", "127.0.0.0/8", "::1"].map(str::to_owned);
        let direct = own.into_iter().chain(direct.filter(|entry| !entry.is_empty()));
        Ok(Self { proxy, direct: direct.collect() })
    }

    /// The proxy for a server, if one is to be taken.
    #[must_use]
    pub fn proxy_for(&self, server: &ServerUrl) -> Option<&Proxy> {
        let host = server.host().to_ascii_lowercase();
        let direct = self.direct.iter().any(|entry| is_direct(entry, &host));
        self.proxy.as_ref().filter(|_| !direct)
    }
}

/// `*`, an address, a block of addresses, a name and all below it.
fn is_direct(entry: &str, host: &str) -> bool {
    let name = entry.strip_prefix("*.").or_else(|| entry.strip_prefix('.')).unwrap_or(entry);
    let below = || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
    let block = || {
        host.parse::<IpAddr>().is_ok() && crate::functions::in_cidr_block(entry, host) == Some(true)
    };
    entry == "*" || host == name || below() || block()
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_decides_unless_a_proxy_is_given() {
        let variables = |name: &str| match name {
            "HTTPS_PROXY" => Some("http://u:p%40ss@proxy:3128".to_owned()),
            "no_proxy" => Some("localhost,.corp.example, 10.0.0.0/8".to_owned()),
            _ => None,
        };
        let rules = ProxyRules::new(None, variables).unwrap();
        let proxied = |rules: &ProxyRules, url: &str| {
            rules.proxy_for(&url.parse().unwrap()).map(|proxy| proxy.at.authority())
        };
        assert_eq!(proxied(&rules, "https://muster.example:1").as_deref(), Some("proxy:3128"));
        assert_eq!(rules.proxy.as_ref().unwrap().credentials.as_deref(), Some("u:p@ss"));
        for direct in ["localhost", "a.corp.example", "corp.example", "10.1.2.3"] {
            assert_eq!(proxied(&rules, direct), None, "{direct}");
        }
        assert!(proxied(&rules, "notcorp.example").is_some());
        let rules = ProxyRules::new(Some("other:8080"), variables).unwrap();
        assert_eq!(proxied(&rules, "localhost").as_deref(), Some("other:8080"));
    }
}
