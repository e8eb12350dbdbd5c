//! The flag file of an osqueryd that talks to this server.

use clap::ValueEnum;

/// Whose paths the file uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum System {
    /// Linux.
    Linux,
    /// macOS.
    Darwin,
    /// Windows.
    Windows,
}

impl System {
    /// The folder of osquery's files.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Linux => "/etc/osquery",
            Self::Darwin => "/var/osquery",
            Self::Windows => r"C:\Program Files\osquery",
        }
    }

    fn file(self, name: &str) -> String {
        let divider = if self == Self::Windows { '\\' } else { '/' };
        format!("{}{divider}{name}", self.folder())
    }
}

/// What may differ from server to server and from host to host.
#[derive(Clone, Debug)]
pub struct Flags<'a> {
    /// `HOST:PORT` of the agents' listener, as agents reach it.
    pub server: &'a str,
    /// Whose paths.
    pub system: System,
    /// What identifies a host: `uuid`; `instance` for machines cloned with their hardware identity.
    pub host_identifier: &'a str,
    /// Whether answers may be compressed: agents before 5.21 do not start with it.
    pub accept_gzip: bool,
}

impl Flags<'_> {
    /// The file.
    pub fn text(&self) -> String {
        let ca = self.system.file("ca.pem");
        let secret = self.system.file("enroll_secret");
        let mut lines = vec![
            format!("--tls_hostname={}", self.server),
            format!("--tls_server_certs={ca}"),
            format!("--host_identifier={}", self.host_identifier),
            format!("--enroll_secret_path={secret}"),
        ];
        lines.extend(FIXED.lines().map(str::to_owned));
        if self.accept_gzip {
            lines.push("--tls_accept_gzip=true".to_owned());
        }
        lines.join("\n") + "\n"
    }
}

/// What is the same everywhere.
const FIXED: &str = "--enroll_tls_endpoint=/api/v1/osquery/enroll
--config_plugin=tls
--config_tls_endpoint=/api/v1/osquery/config
--config_refresh=60
--config_accelerated_refresh=60
--disable_distributed=false
--distributed_plugin=tls
--distributed_interval=10
--distributed_tls_max_attempts=3
--distributed_tls_read_endpoint=/api/v1/osquery/distributed/read
--distributed_tls_write_endpoint=/api/v1/osquery/distributed/write
--logger_plugin=tls
--logger_tls_endpoint=/api/v1/osquery/log
--logger_tls_period=10
--logger_tls_compress=true
--disable_carver=false
--carver_disable_function=false
--carver_start_endpoint=/api/v1/osquery/carve/begin
--carver_continue_endpoint=/api/v1/osquery/carve/block
--carver_block_size=2000000";

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(system: System) -> String {
        let server = "muster.example:8443";
        Flags { server, system, host_identifier: "uuid", accept_gzip: false }.text()
    }

    #[test]
    fn the_file_for_linux() {
        insta::assert_snapshot!(flags(System::Linux));
    }

    #[test]
    fn paths_are_those_of_the_system() {
        assert!(flags(System::Windows).contains(r"=C:\Program Files\osquery\ca.pem"));
        assert!(flags(System::Darwin).contains("=/var/osquery/enroll_secret"));
    }
}
