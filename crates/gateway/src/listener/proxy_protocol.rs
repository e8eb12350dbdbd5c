//! The PROXY protocol, versions 1 and 2: a balancer that passes TLS on says in front of it whose
//! connection it is. <https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>
//!
//! Not a byte more than the header is read, so what comes after it is the client's.

use std::io;
use std::net::SocketAddr;

use ppp::{v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Every good header of either version has more bytes.
const BEGIN: usize = 12;
/// A line of version 1, with its end.
const LINE_BYTES_MAX: usize = 107;
const FIXED_BYTES: usize = 16;
/// What may follow them: addresses, and what balancers tell of TLS and of their networks, which is
/// some hundred bytes. The protocol would allow 64 KiB.
const VARIABLE_BYTES_MAX: usize = 2048;

/// Reads the header that must begin this connection, and says who the client is; `peer` when the
/// balancer speaks for itself, or does not know.
///
/// # Errors
/// When there is no header, or a bad one.
pub(super) async fn read(tcp: &mut TcpStream, peer: SocketAddr) -> io::Result<SocketAddr> {
    let mut header = vec![0; BEGIN];
    tcp.read_exact(&mut header).await?;
    let source = if header == v2::PROTOCOL_PREFIX {
        rest(tcp, &mut header, FIXED_BYTES).await?;
        let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
        if length > VARIABLE_BYTES_MAX {
            return Err(bad("it is too long"));
        }
        rest(tcp, &mut header, FIXED_BYTES + length).await?;
        binary(&header)?
    } else if header.starts_with(v1::PROTOCOL_PREFIX.as_bytes()) {
        line(tcp, &mut header).await?;
        text(&header)?
    } else {
        return Err(bad("there is none"));
    };
    let source = source.unwrap_or(peer);
    Ok(SocketAddr::new(source.ip().to_canonical(), source.port()))
}

/// Reads on until the header is so long.
async fn rest(tcp: &mut TcpStream, header: &mut Vec<u8>, length: usize) -> io::Result<()> {
    let read = header.len();
    header.resize(length, 0);
    tcp.read_exact(&mut header[read..]).await.map(drop)
}

/// Reads on to the end of the line.
async fn line(tcp: &mut TcpStream, header: &mut Vec<u8>) -> io::Result<()> {
    let mut seen = [0; LINE_BYTES_MAX];
    if header.contains(&b'\n') {
        return Err(bad("its line is too short"));
    }
    while header.len() < LINE_BYTES_MAX {
        let n = tcp.peek(&mut seen[..LINE_BYTES_MAX - header.len()]).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = seen[..n].iter().position(|byte| *byte == b'\n');
        // What was seen is in the socket: this does not wait.
        rest(tcp, header, header.len() + end.map_or(n, |end| end + 1)).await?;
        if end.is_some() {
            return Ok(());
        }
    }
    Err(bad("its line has no end"))
}

fn text(header: &[u8]) -> io::Result<Option<SocketAddr>> {
    let header = v1::Header::try_from(header).map_err(|error| bad(&error.to_string()))?;
    Ok(match header.addresses {
        v1::Addresses::Tcp4(ip) => Some((ip.source_address, ip.source_port).into()),
        v1::Addresses::Tcp6(ip) => Some((ip.source_address, ip.source_port).into()),
        v1::Addresses::Unknown => None,
    })
}

fn binary(header: &[u8]) -> io::Result<Option<SocketAddr>> {
    let header = v2::Header::try_from(header).map_err(|error| bad(&error.to_string()))?;
    Ok(match (header.command, header.addresses) {
        (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => {
            Some((ip.source_address, ip.source_port).into())
        }
        (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => {
            Some((ip.source_address, ip.source_port).into())
        }
        // A health check of the balancer's own, or a connection from no network.
        _ => None,
    })
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("PROXY header: {why}"))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    fn v2_header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [V2, &[0x20 | command, family], &length, body].concat()
    }

    /// What a header says, sent in pieces of this size, and what is left to read after it.
    async fn said(bytes: &[u8], piece: usize) -> io::Result<(String, Vec<u8>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut client = TcpStream::connect(listener.local_addr()?).await?;
        client.set_nodelay(true)?;
        let (mut server, peer) = listener.accept().await?;
        let send = async {
            for piece in bytes.chunks(piece) {
                // A refusal closes the socket under it.
                if client.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            client.shutdown().await
        };
        let receive = async {
            let source = read(&mut server, peer).await?;
            let mut left = Vec::new();
            server.read_to_end(&mut left).await?;
            let is_peer = source == peer;
            io::Result::Ok((if is_peer { "peer".into() } else { source.to_string() }, left))
        };
        let (_, received) = tokio::join!(send, receive);
        received
    }

    #[tokio::test]
    async fn both_versions_in_pieces_of_any_size() {
        let four = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0x1f, 0x90];
        let mut six = vec![0x20, 0x01, 0x0d, 0xb8];
        six.extend([0; 11]);
        six.push(7);
        six.extend([0; 16]);
        six.extend([0, 9, 0, 1]);
        // With an extension: a name the client asked for.
        let extended = [&four[..], &[2, 0, 1, b'x']].concat();
        let cases = [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 8080\r\n".to_vec(), "192.0.2.7:4660"),
            (b"PROXY TCP6 2001:db8::7 ::1 9 1\r\n".to_vec(), "[2001:db8::7]:9"),
            (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 9 1\r\n".to_vec(), "192.0.2.7:9"),
            (b"PROXY UNKNOWN\r\n".to_vec(), "peer"),
            (v2_header(1, 0x11, &four), "192.0.2.7:4660"),
            (v2_header(1, 0x11, &extended), "192.0.2.7:4660"),
            (v2_header(1, 0x21, &six), "[2001:db8::7]:9"),
            (v2_header(0, 0x00, &[]), "peer"),
            (v2_header(0, 0x11, &four), "peer"),
        ];
        for (header, source) in cases {
            for piece in [1, 5, 1000] {
                let bytes = [&header[..], b"\x16\x03\x01hello"].concat();
                let got = said(&bytes, piece).await.unwrap();
                assert_eq!(got, (source.to_owned(), b"\x16\x03\x01hello".to_vec()), "by {piece}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_none_is_refused() {
        let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
        let cases = [
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\0\0\0\0".to_vec(),
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 99999 1\r\n".to_vec(),
            b"PROXY TCP4 example.org 10.0.0.1 1 1\r\n".to_vec(),
            b"PROXY SCTP 192.0.2.7 10.0.0.1 1 1\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7".to_vec(),
            b"PROXY \r\nGET / HTTP/1.1\r\n\r\n".to_vec(),
            long,
            v2_header(1, 0x11, &[192, 0, 2]),
            v2_header(1, 0x11, &[0; VARIABLE_BYTES_MAX + 1]),
            v2_header(7, 0x11, &[0; 12]),
            V2.to_vec(),
            Vec::new(),
        ];
        for bytes in cases {
            for piece in [1, 1000] {
                assert!(
                    said(&bytes, piece).await.is_err(),
                    "{:?}",
                    String::from_utf8_lossy(&bytes)
                );
            }
        }
    }
}
