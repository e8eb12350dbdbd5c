//! A client that does what osqueryd does: a new connection and a full handshake for every request, and
//! no look at the status.

use std::io::Read as _;
use std::net::SocketAddr;

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

/// How the server is reached.
#[derive(Clone)]
pub struct Far {
    pub address: SocketAddr,
    pub connector: TlsConnector,
}

/// An answer, as it came.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    /// The body, which must be a JSON object.
    pub fn json(&self) -> Value {
        let value: Value = serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.body)));
        assert!(value.is_object(), "{value}");
        value
    }

    /// The body, which must be packed with gzip, as it was before.
    pub fn unpacked(&self) -> Vec<u8> {
        assert!(self.is_packed(), "{}", self.head);
        let mut plain = Vec::new();
        GzDecoder::new(&*self.body).read_to_end(&mut plain).unwrap();
        plain
    }

    pub fn is_packed(&self) -> bool {
        self.head.to_ascii_lowercase().contains("content-encoding: gzip")
    }

    /// What the agent makes of it.
    pub fn means(&self) -> Means {
        if self.body.is_empty() {
            return Means::Success;
        }
        match serde_json::from_slice::<Value>(&self.body) {
            Ok(Value::Object(object)) if object.get("node_invalid") == Some(&Value::Bool(true)) => {
                Means::EnrolAgain
            }
            Ok(Value::Object(object)) if object.contains_key("error") => Means::KeepAndRetry,
            Ok(Value::Object(_)) => Means::Success,
            _ => Means::KeepAndRetry,
        }
    }
}

/// What an answer means to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    Success,
    KeepAndRetry,
    EnrolAgain,
}

impl Far {
    /// One POST on a connection of its own.
    pub async fn post(
        &self,
        path: &str,
        body: impl AsRef<[u8]>,
        headers: &[(&str, &str)],
    ) -> Reply {
        let tcp = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let mut io = self.connector.connect(name, tcp).await.unwrap();
        io.write_all(&request(path, body.as_ref(), headers)).await.unwrap();
        io.flush().await.unwrap();
        read_reply(&mut io).await
    }

    pub async fn post_json(&self, path: &str, body: &Value) -> Reply {
        self.post(path, body.to_string(), &[]).await
    }
}

/// A request as osqueryd writes it.
pub fn request(path: &str, body: &[u8], headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Accept: application/json\r\nUser-Agent: osquery/5.22.1\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

/// One answer.
pub async fn read_reply(io: &mut (impl AsyncReadExt + Unpin)) -> Reply {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 16 << 10];
    loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..at].to_vec()).unwrap();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
            });
            let length: usize = length.expect("every answer says how long it is");
            while bytes.len() < at + 4 + length {
                let n = io.read(&mut chunk).await.unwrap();
                assert!(n > 0, "cut short: {head}");
                bytes.extend_from_slice(&chunk[..n]);
            }
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            return Reply { status, head, body: bytes[at + 4..at + 4 + length].to_vec() };
        }
        let n = io.read(&mut chunk).await.unwrap();
        assert!(n > 0, "closed: {:?}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&chunk[..n]);
    }
}

/// What a machine says of itself.
pub fn enrolment(secret: &str, identifier: &str, instance: &str) -> Value {
    json!({
        "enroll_secret": secret,
        "host_identifier": identifier,
        "platform_type": "9",
        "host_details": {
            "os_version": {"name": "Ubuntu", "version": "24.04", "major": "24", "platform": "ubuntu",
                "platform_like": "debian", "arch": "x86_64"},
            "osquery_info": {"version": "5.22.1", "instance_id": instance, "uuid": ""},
            "system_info": {"hostname": format!("{identifier}.example"), "hardware_serial": "s"},
            "platform_info": {"vendor": "v"},
        },
    })
}
