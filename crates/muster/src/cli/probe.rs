//! `muster probe`: what a container's health check runs, where there is no other program.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use clap::Args;

use crate::client::{CliError, Exit};

const TIME: Duration = Duration::from_secs(2);

/// Flags of `muster probe`.
#[derive(Args)]
pub struct Probe {
    /// HOST:PORT of the metrics listener.
    #[arg(default_value = "127.0.0.1:9443")]
    pub address: String,
}

/// Asks for `/readyz`; exit 0 when the instance wants traffic.
pub fn run(probe: &Probe) -> Result<(), CliError> {
    let answer = ask(&probe.address)
        .map_err(|why| CliError::new(Exit::Unreachable, format!("{}: {why}", probe.address)))?;
    let (head, said) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    println!("{}", said.trim());
    match head.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => Err(CliError::new(Exit::Refused, "the instance wants no traffic")),
    }
}

fn ask(address: &str) -> std::io::Result<String> {
    let mut last = std::io::ErrorKind::NotFound.into();
    for at in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&at, TIME) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(TIME))?;
                stream.set_write_timeout(Some(TIME))?;
                write!(stream, "GET /readyz HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
                let mut answer = String::new();
                stream.take(4096).read_to_string(&mut answer)?;
                return Ok(answer);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
