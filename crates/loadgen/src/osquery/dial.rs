//! Connections: a new one for each request, or a pool that stands for a balancer.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::OsqueryOptions;

/// An agent gives up beyond this.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// What came back: the status, which agents do not look at, and the body.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

type Stream = TlsStream<TcpStream>;

/// Opens connections, or hands out those of the pool.
pub(super) struct Dialer {
    tls: Arc<ClientConfig>,
    name: ServerName<'static>,
    /// For the Host header.
    pub(super) authority: String,
    address: SocketAddr,
    addresses: u8,
    pool: Option<Pool>,
}

/// Connections that stay open. The one that rested longest goes first, so that a request meets one
/// that went cold, as behind a balancer with many of them.
struct Pool {
    turns: Semaphore,
    idle: Mutex<VecDeque<Stream>>,
}

impl Dialer {
    pub(super) async fn new(options: &OsqueryOptions) -> anyhow::Result<Self> {
        let uri: http::Uri = options.server.parse()?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(443);
        let address = tokio::net::lookup_host((host.as_str(), port)).await?.next();
        let address = address.ok_or_else(|| anyhow::anyhow!("{host} has no address"))?;
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(&options.ca)? {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // No agent resumes a session, whatever its flags say.
        tls.resumption = Resumption::disabled();
        let pool = (options.keep_alive > 0)
            .then(|| Pool { turns: Semaphore::new(options.keep_alive), idle: Mutex::default() });
        Ok(Self {
            tls: Arc::new(tls),
            name: ServerName::try_from(host.clone())?,
            authority: if port == 443 { host } else { format!("{host}:{port}") },
            address,
            addresses: options.addresses.max(1),
            pool,
        })
    }

    /// Sends one request and reads its answer. `host` decides where it comes from.
    pub(super) async fn exchange(&self, host: u32, request: &[u8]) -> io::Result<Answer> {
        let Some(pool) = &self.pool else {
            let mut stream = self.open(host).await?;
            let (answer, _) = talk(&mut stream, request).await?;
            // Agents close after each answer; what that takes is not waited for.
            drop(stream);
            return Ok(answer);
        };
        let _turn = pool.turns.acquire().await.map_err(io::Error::other)?;
        let kept = pool.idle.lock().await.pop_front();
        if let Some(mut stream) = kept {
            // A balancer that finds a kept connection closed takes a new one; agents hear nothing of it.
            if let Ok((answer, stays)) = talk(&mut stream, request).await {
                pool.keep(stream, stays).await;
                return Ok(answer);
            }
        }
        let mut stream = self.open(host).await?;
        let (answer, stays) = talk(&mut stream, request).await?;
        pool.keep(stream, stays).await;
        Ok(answer)
    }

    async fn open(&self, host: u32) -> io::Result<Stream> {
        let socket =
            if self.address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if self.address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
            let last = 1 + (host % u32::from(self.addresses)) as u8;
            let from = IpAddr::V4(Ipv4Addr::new(127, 7, 0, last));
            socket.bind(SocketAddr::new(from, 0))?;
        }
        let tcp = socket.connect(self.address).await?;
        tcp.set_nodelay(true)?;
        TlsConnector::from(Arc::clone(&self.tls)).connect(self.name.clone(), tcp).await
    }
}

impl Pool {
    async fn keep(&self, stream: Stream, stays: bool) {
        if stays {
            self.idle.lock().await.push_back(stream);
        }
    }
}

/// One request and its answer; whether the connection can take another.
async fn talk(stream: &mut Stream, request: &[u8]) -> io::Result<(Answer, bool)> {
    stream.write_all(request).await?;
    stream.flush().await?;
    let mut read = Vec::with_capacity(1024);
    let (head_len, status, length, stays) = loop {
        if let Some(head) = head(&read)? {
            break head;
        }
        if read.len() > 64 << 10 {
            return Err(io::Error::other("the answer's head does not end"));
        }
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    if length > ANSWER_BYTES_MAX {
        return Err(io::Error::other("the answer is above 8 MiB"));
    }
    let mut body = read.split_off(head_len);
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok((Answer { status, body }, stays))
}

/// Length of the head, status, length of the body, whether the connection stays.
fn head(read: &[u8]) -> io::Result<Option<(usize, u16, usize, bool)>> {
    let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let bad = |why: &'static str| io::Error::new(io::ErrorKind::InvalidData, why);
    let text = std::str::from_utf8(&read[..end]).map_err(|_| bad("a head that is no text"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|s| s.parse().ok());
    let (mut length, mut stays) = (None, true);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok(),
            "connection" => stays = !value.eq_ignore_ascii_case("close"),
            "transfer-encoding" => return Err(bad("an answer in chunks")),
            _ => {}
        }
    }
    let status = status.ok_or_else(|| bad("an answer without a status"))?;
    let length = length.ok_or_else(|| bad("an answer without a length"))?;
    Ok(Some((end + 4, status, length, stays)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_far_as_they_matter() {
        let answer = b"HTTP/1.1 503 Busy\r\ncontent-length: 12\r\nConnection: close\r\n\r\nbody";
        assert_eq!(head(answer).unwrap(), Some((60, 503, 12, false)));
        assert_eq!(head(b"HTTP/1.1 200 OK\r\ncontent-le").unwrap(), None);
        assert!(head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(head(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }
}
