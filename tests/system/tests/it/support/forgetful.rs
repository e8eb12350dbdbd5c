//! A gateway before an S3 server that forgets `If-None-Match` from some moment on.
//!
//! It is one with credentials of its own: what comes in is signed anew (AWS Signature Version 4), since the
//! client has signed the header that is dropped.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, ensure};
use muster_testkit::S3;
use muster_types::{Clock, SystemClock};
use sha2::{Digest, Sha256};

/// Objects of tests are small.
const BODY_BYTES_MAX: usize = 64 << 20;
const REGION: &str = "us-east-1";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// What is written anew.
const OWN: [&str; 5] =
    ["host", "connection", "authorization", "x-amz-date", "x-amz-content-sha256"];

/// A running gateway; it ends with the test process.
pub struct Forgetful {
    address: SocketAddr,
    forgets: Arc<AtomicBool>,
}

impl Forgetful {
    /// Starts one before a server.
    pub fn start(server: &S3) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (forgets, to) = (Arc::<AtomicBool>::default(), server.address());
        let switch = forgets.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (switch, to) = (switch.clone(), to.clone());
                std::thread::spawn(move || {
                    // A client that sees its connection break asks again, and says so if that is in vain.
                    let _ = pass(client, &to, &switch);
                });
            }
        });
        Ok(Self { address, forgets })
    }

    /// What `archive.s3.endpoint` is set to.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on.
    pub fn forget(&self) {
        self.forgets.store(true, Ordering::Relaxed);
    }
}

/// One request and its answer; then the connection ends.
fn pass(mut client: TcpStream, to: &str, forgets: &AtomicBool) -> anyhow::Result<()> {
    let mut input = BufReader::new(client.try_clone()?);
    let mut first = String::new();
    input.read_line(&mut first)?;
    let mut words = first.split_whitespace();
    let (method, target) = (words.next().context("method")?, words.next().context("target")?);
    let (mut kept, mut length) = (BTreeMap::new(), 0);
    loop {
        let mut line = String::new();
        ensure!(input.read_line(&mut line)? > 0, "the head ends early");
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let (name, value) = (name.to_ascii_lowercase(), value.trim());
        if name == "content-length" {
            length = value.parse()?;
        }
        let forgotten = name == "if-none-match" && forgets.load(Ordering::Relaxed);
        if !forgotten && !OWN.contains(&name.as_str()) {
            kept.insert(name, value.to_owned());
        }
    }
    ensure!(length <= BODY_BYTES_MAX, "{length} bytes");
    let mut body = vec![0; length];
    input.read_exact(&mut body)?;
    let mut server = TcpStream::connect(to)?;
    kept.insert("host".to_owned(), to.to_owned());
    let signed = sign(method, target, kept)?;
    let lines = signed.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    let head: String = lines.collect();
    write!(server, "{method} {target} HTTP/1.1\r\n{head}connection: close\r\n\r\n")?;
    server.write_all(&body)?;
    std::io::copy(&mut server, &mut client)?;
    Ok(())
}

/// The headers of a request with those that sign it.
fn sign(
    method: &str,
    target: &str,
    mut headers: BTreeMap<String, String>,
) -> anyhow::Result<BTreeMap<String, String>> {
    let at = jiff::Timestamp::from_second(SystemClock.now().seconds())?;
    let time = at.strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = time[..8].to_owned();
    headers.insert("x-amz-date".to_owned(), time.clone());
    headers.insert("x-amz-content-sha256".to_owned(), UNSIGNED.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let whole = |pair: &str| if pair.contains('=') { pair.into() } else { format!("{pair}=") };
    let mut pairs: Vec<String> = pairs.map(whole).collect();
    pairs.sort_unstable();
    let is_signed = |name: &str| name == "host" || name.starts_with("x-amz-");
    let (mut names, mut lines) = (Vec::new(), String::new());
    for (name, value) in headers.iter().filter(|(name, _)| is_signed(name)) {
        names.push(name.as_str());
        lines += &format!("{name}:{value}\n");
    }
    let (names, pairs) = (names.join(";"), pairs.join("&"));
    let canonical = format!("{method}\n{path}\n{pairs}\n{lines}\n{names}\n{UNSIGNED}");
    let scope = format!("{day}/{REGION}/s3/aws4_request");
    let digest = hex::encode(Sha256::digest(canonical));
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}");
    let mut key = format!("AWS4{}", S3::SECRET_KEY).into_bytes();
    for part in [day.as_str(), REGION, "s3", "aws4_request", &text] {
        key = mac(&key, part.as_bytes());
    }
    let (who, signature) = (S3::ACCESS_KEY, hex::encode(key));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={who}/{scope}, SignedHeaders={names}, Signature={signature}"
    );
    headers.insert("authorization".to_owned(), authorization);
    Ok(headers)
}

/// HMAC-SHA256 (RFC 2104), for keys that are no longer than a block.
fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let padded = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().to_vec()
}
