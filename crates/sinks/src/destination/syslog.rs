//! Syslog: RFC 5424 messages over UDP, TCP (RFC 6587, octet counting) or TLS (RFC 5425).
//!
//! Nobody acknowledges anything here. Over TCP and TLS a connection that turns out to be closed
//! takes what was written to it last along, so that is sent again; over UDP nothing is noticed.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::{SendError, Sent, Verdict, all_taken, guard, tls};
use crate::SyslogTransport;
use crate::cells::time;
use crate::event::Event;

/// Longest message in a datagram, with room for headers.
const DATAGRAM_MAX: usize = 65_000;
/// What was written so lately is sent again when its connection turns out to be closed,
const DOUBTFUL: Duration = Duration::from_secs(5);
/// but no more than this.
const DOUBTFUL_BYTES: usize = 1 << 20;
/// Severity 6, informational.
const SEVERITY: u8 = 6;

/// Where messages go.
pub(crate) struct Target {
    host: String,
    port: u16,
    transport: SyslogTransport,
    facility: u8,
    allow_private: bool,
}

impl Target {
    /// `host:port`; the host may stand in brackets.
    pub(super) fn new(
        address: &str,
        transport: SyslogTransport,
        facility: u8,
        allow_private: bool,
    ) -> Self {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Self { host, port: port.parse().unwrap_or(514), transport, facility, allow_private }
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Duplex for T {}

enum Link {
    Datagrams(UdpSocket),
    Stream(Box<dyn Duplex>),
}

/// A syslog server and the connection to it.
pub(crate) struct Syslog {
    target: Target,
    tls: Arc<rustls::ClientConfig>,
    timeout: Duration,
    link: Option<Link>,
    /// Written to the present connection lately.
    doubtful: VecDeque<(Instant, Bytes)>,
}

impl Syslog {
    pub(super) fn new(
        target: Target,
        ca_pem: Option<&str>,
        timeout: Duration,
    ) -> Result<Self, String> {
        let tls = Arc::new(tls::client(ca_pem)?);
        Ok(Self { target, tls, timeout, link: None, doubtful: VecDeque::new() })
    }

    pub(super) async fn send(&mut self, events: &[Event]) -> Sent {
        // Out of its place, so that whatever cuts this short also closes the connection.
        let link = self.link.take();
        match timeout(self.timeout, self.exchange(link, events)).await {
            Ok(Ok((link, verdicts))) => {
                self.link = Some(link);
                Ok(verdicts)
            }
            Ok(Err(message)) => Err(SendError::failed(message)),
            Err(_) => Err(SendError::failed(format!("no progress within {:?}", self.timeout))),
        }
    }

    async fn exchange(
        &mut self,
        link: Option<Link>,
        events: &[Event],
    ) -> Result<(Link, Vec<Verdict>), String> {
        let link = match link {
            Some(Link::Stream(mut stream)) => match is_closed(&mut *stream) {
                false => Some(Link::Stream(stream)),
                true => {
                    self.forget_old();
                    None
                }
            },
            other => other,
        };
        let link = match link {
            Some(link) => link,
            None => self.connect().await?,
        };
        match link {
            Link::Datagrams(socket) => {
                let verdicts = self.datagrams(&socket, events).await?;
                Ok((Link::Datagrams(socket), verdicts))
            }
            Link::Stream(mut stream) => {
                if let Err(error) = self.stream(&mut *stream, events).await {
                    self.forget_old();
                    return Err(self.away(&error));
                }
                Ok((Link::Stream(stream), all_taken(events)))
            }
        }
    }

    async fn datagrams(
        &self,
        socket: &UdpSocket,
        events: &[Event],
    ) -> Result<Vec<Verdict>, String> {
        let mut verdicts = Vec::with_capacity(events.len());
        for event in events {
            let message = message(event, self.target.facility);
            verdicts.push(if message.len() > DATAGRAM_MAX {
                Verdict::Refused(format!("{} bytes do not fit a datagram", message.len()))
            } else {
                socket.send(&message).await.map_err(|error| self.away(&error))?;
                Verdict::Taken
            });
        }
        Ok(verdicts)
    }

    async fn stream(&mut self, stream: &mut dyn Duplex, events: &[Event]) -> std::io::Result<()> {
        self.forget_old();
        let mut text = Vec::new();
        for event in events {
            let message = message(event, self.target.facility);
            text.extend_from_slice(format!("{} ", message.len()).as_bytes());
            text.extend_from_slice(&message);
        }
        stream.write_all(&text).await?;
        stream.flush().await?;
        self.doubtful.push_back((Instant::now(), text.into()));
        let mut bytes: usize = self.doubtful.iter().map(|(_, text)| text.len()).sum();
        while bytes > DOUBTFUL_BYTES && self.doubtful.len() > 1 {
            bytes -= self.doubtful.pop_front().map_or(0, |(_, text)| text.len());
        }
        Ok(())
    }

    /// Connects; over a stream what may have been lost with the last one goes first.
    async fn connect(&mut self) -> Result<Link, String> {
        let Target { host, port, allow_private, .. } = &self.target;
        let addresses = guard::resolve(host, *port, *allow_private).await?;
        if self.target.transport == SyslogTransport::Udp {
            let to = addresses[0];
            let from: SocketAddr = match to {
                SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
                SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
            };
            let socket = UdpSocket::bind(from).await.map_err(|error| self.away(&error))?;
            socket.connect(to).await.map_err(|error| self.away(&error))?;
            return Ok(Link::Datagrams(socket));
        }
        let tcp = TcpStream::connect(&*addresses).await.map_err(|error| self.away(&error))?;
        let mut stream: Box<dyn Duplex> = match self.target.transport {
            SyslogTransport::Tls => {
                let name = ServerName::try_from(host.clone()).map_err(|error| error.to_string())?;
                let connector = TlsConnector::from(Arc::clone(&self.tls));
                let tls = connector.connect(name, tcp).await.map_err(|error| self.away(&error))?;
                Box::new(tls)
            }
            _ => Box::new(tcp),
        };
        for (_, text) in &self.doubtful {
            stream.write_all(text).await.map_err(|error| self.away(&error))?;
        }
        let now = Instant::now();
        self.doubtful.iter_mut().for_each(|(at, _)| *at = now);
        Ok(Link::Stream(stream))
    }

    /// What was written before the last seconds has arrived. Not to be called while the connection is
    /// known to be broken: then time goes by without anything arriving.
    fn forget_old(&mut self) {
        self.doubtful.retain(|(at, _)| at.elapsed() <= DOUBTFUL);
    }

    fn away(&self, error: &std::io::Error) -> String {
        format!("{}:{}: {error}", self.target.host, self.target.port)
    }
}

/// Whether the other side has closed. What it says otherwise is passed over.
fn is_closed(stream: &mut dyn Duplex) -> bool {
    let mut said = [0; 256];
    loop {
        match stream.read(&mut said).now_or_never() {
            None => return false,
            Some(Ok(0) | Err(_)) => return true,
            Some(Ok(_)) => {}
        }
    }
}

/// One message: `<PRI>1 TIME HOST muster - TABLE - JSON`.
fn message(event: &Event, facility: u8) -> Vec<u8> {
    let mut head = String::with_capacity(128);
    let priority = u16::from(facility) * 8 + u16::from(SEVERITY);
    let at = time(event.received.0);
    let (host, table) = (word(&event.host, 255), word(&event.table, 32));
    let _ = write!(head, "<{priority}>1 {at} {host} muster - {table} - ");
    let mut message = head.into_bytes();
    message.extend_from_slice(&event.body);
    message
}

/// Printable ASCII without spaces, or the word for nothing.
fn word(text: &str, most: usize) -> String {
    let fits = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    let word: String = text.chars().take(most).map(fits).collect();
    if word.is_empty() { "-".to_owned() } else { word }
}

#[cfg(test)]
mod tests {
    use muster_types::Timestamp;

    use super::*;

    #[test]
    fn messages_have_the_form_of_the_rfc() {
        let event = Event {
            id: "i".to_owned(),
            body: Bytes::from_static(b"{}"),
            received: Timestamp(1_700_000_000_123_456),
            table: "linux_processes".into(),
            host: "büro 1".into(),
        };
        let message = String::from_utf8(message(&event, 16)).unwrap();
        let expected = "<134>1 2023-11-14T22:13:20.123456Z b_ro_1 muster - linux_processes - {}";
        assert_eq!(message, expected);
        assert_eq!(word("", 32), "-");
    }
}
