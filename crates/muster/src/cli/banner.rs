//! What `muster up` prints: where everything is, and how to go on.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// The facts of the page.
pub struct Banner {
    /// Ports that others had.
    pub skipped: Vec<String>,
    /// The operators' listener.
    pub operators: SocketAddr,
    /// The agents' listener.
    pub agents: SocketAddr,
    /// Health and metrics.
    pub metrics: SocketAddr,
    /// This machine's address as others see it.
    pub host: IpAddr,
    /// The data folder.
    pub data: PathBuf,
    /// SHA-256 of the CA.
    pub fingerprint: String,
    /// On the first start only.
    pub password: Option<String>,
    /// For the line that enrols a second machine.
    pub secret: String,
}

impl Banner {
    /// Prints it.
    pub fn print(&self) {
        for skipped in &self.skipped {
            eprintln!("port {skipped}; the next one is taken");
        }
        println!("{}", self.text(&program(), rustix::process::geteuid().is_root()));
    }

    fn text(&self, program: &str, root: bool) -> String {
        let data = std::path::absolute(&self.data).unwrap_or_else(|_| self.data.clone());
        let mut lines = vec![
            format!("Muster {} is running.", env!("CARGO_PKG_VERSION")),
            String::new(),
            format!("  address   {}  ({})", self.url(self.operators), reach(self.operators)),
            format!("  agents    {}  ({})", self.url(self.agents), reach(self.agents)),
            format!("  health    http://{}/readyz, /metrics", self.metrics),
            format!("  data      {}  (kept; `{program} up` finds it again)", data.display()),
            format!("  CA        SHA-256 {}", self.fingerprint),
        ];
        lines.push(match &self.password {
            Some(password) => {
                format!("  sign in   admin, one-time password {password}  (shown this once)")
            }
            None => format!(
                "  sign in   as before; a lost password: {program} user reset admin --data {}",
                data.display()
            ),
        });
        lines.push(if root {
            "  runs as   root".into()
        } else {
            "  runs as   an ordinary user: paths, sockets and memory of other users' processes \
             are not seen; start it as root for all"
                .into()
        });
        lines.extend([
            String::new(),
            "Enrol a second machine (the same program there, as root):".into(),
            format!(
                "  MUSTER_ENROL_SECRET={} {} agent join --server {} --ca-sha256 {}",
                self.secret,
                "muster",
                self.url(self.agents),
                self.fingerprint.replace(':', "").to_lowercase()
            ),
            String::new(),
            "Try, from another terminal (you are signed in already):".into(),
            format!(
                "  {program} query \"SELECT pid, name, cmdline FROM processes ORDER BY resident_size DESC LIMIT 5\""
            ),
            format!("  {program} hunt start linux.network.listening"),
            format!(
                "  {program} sql \"SELECT endpoint_name, port, name FROM linux_network_listening ORDER BY port\""
            ),
            String::new(),
            "Ctrl-C stops it; everything is kept.".into(),
        ]);
        lines.join("\n")
    }

    /// As another machine would write it, when it can be reached from there at all.
    fn url(&self, listener: SocketAddr) -> String {
        let host = if listener.ip().is_unspecified() { self.host } else { listener.ip() };
        format!("https://{}", SocketAddr::new(host, listener.port()))
    }
}

fn reach(listener: SocketAddr) -> &'static str {
    if listener.ip().is_loopback() { "this machine only" } else { "reachable from outside" }
}

/// How to call this program: by name where the path finds it, else by its path.
fn program() -> String {
    let Ok(exe) = std::env::current_exe() else { return "muster".into() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("muster")).find(|p| p.is_file());
    let same = |found: &PathBuf| found.canonicalize().ok() == exe.canonicalize().ok();
    // The context belongs to root then, not to who typed `sudo`.
    let sudo = if std::env::var_os("SUDO_UID").is_some() { "sudo " } else { "" };
    if found.as_ref().is_some_and(same) {
        return format!("{sudo}muster");
    }
    let here = std::env::current_dir().ok();
    let short = here.and_then(|here| exe.strip_prefix(here).ok().map(|p| p.to_owned()));
    format!("{sudo}{}", short.unwrap_or(exe).display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page() {
        let banner = Banner {
            skipped: Vec::new(),
            operators: "[::]:8443".parse().unwrap(),
            agents: "[::]:8453".parse().unwrap(),
            metrics: "127.0.0.1:9443".parse().unwrap(),
            host: "192.0.2.7".parse().unwrap(),
            data: "/var/lib/muster".into(),
            fingerprint: "AB:CD:EF".into(),
            password: Some("correct-horse".into()),
            secret: "s3cret".into(),
        };
        insta::assert_snapshot!(banner.text("muster", true));
    }
}
