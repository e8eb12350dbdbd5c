//! The S3 server of the tests.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use muster_testkit::S3;

const SOON: Duration = Duration::from_secs(30);

/// The status line of an unsigned request for the bucket: 403 from a server that is in order.
fn ask(server: &S3, within: Duration) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(server.address())?;
    stream.set_read_timeout(Some(within))?;
    write!(
        stream,
        "GET /{} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
        S3::BUCKET,
        server.address()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

#[test]
fn it_starts_pauses_dies_and_comes_back() {
    let mut server = S3::start().unwrap();
    assert!(ask(&server, SOON).unwrap().contains("403"));
    server.pause().unwrap();
    assert!(ask(&server, Duration::from_millis(500)).is_err());
    server.resume().unwrap();
    assert!(ask(&server, SOON).unwrap().contains("403"));
    server.kill().unwrap();
    assert!(ask(&server, Duration::from_millis(500)).is_err());
    server.restart().unwrap();
    assert!(ask(&server, SOON).unwrap().contains("403"));
    server.stop().unwrap();
}
