//! Where a server is.

use std::fmt;
use std::str::FromStr;

/// `https://name:port`; the name may be an address, IPv6 in brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerUrl {
    host: String,
    port: u16,
}

/// Not a server's URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no server address: {reason}; expected https://NAME:PORT")]
pub struct BadUrl {
    text: String,
    reason: &'static str,
}

impl ServerUrl {
    /// Name or address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `name:port`, with brackets around an IPv6 address.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

impl FromStr for ServerUrl {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let bad = |reason| BadUrl { text: text.to_owned(), reason };
        let rest = match text.trim().split_once("://") {
            Some(("https" | "wss", rest)) => rest,
            Some(_) => return Err(bad("agents speak TLS only")),
            None => text.trim(),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '@', '?', '#']) {
            return Err(bad("it has more than a name and a port"));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) =
                    rest.split_once(']').ok_or_else(|| bad("a bracket is missing"))?;
                (host, port.strip_prefix(':').unwrap_or(port))
            }
            None => authority.rsplit_once(':').unwrap_or((authority, "")),
        };
        if host.is_empty() {
            return Err(bad("the name is missing"));
        }
        let port = if port.is_empty() {
            443
        } else {
            port.parse().map_err(|_| bad("the port is no number below 65536"))?
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_shown() {
        let shown = |text: &str| text.parse::<ServerUrl>().unwrap().to_string();
        assert_eq!(shown("https://muster.example:8443/"), "https://muster.example:8443");
        assert_eq!(shown("muster.example"), "https://muster.example:443");
        assert_eq!(shown("https://[::1]:9"), "https://[::1]:9");
        for bad in ["http://x:1", "https://x:70000", "https://", "https://x/y", "https://[::1:9"] {
            assert!(bad.parse::<ServerUrl>().is_err(), "{bad}");
        }
    }
}
