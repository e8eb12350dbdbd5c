//! nginx: `http` where it ends TLS, `stream` where it passes it.

use std::fmt::Write as _;

use super::site::{Side, Site};

const HEAD: &str = include_str!("templates/nginx.conf");
const HTTP: &str = include_str!("templates/nginx-http.conf");
const OPERATORS: &str = include_str!("templates/nginx-operators.conf");
const AGENTS: &str = include_str!("templates/nginx-agents.conf");
const STREAM: &str = include_str!("templates/nginx-stream.conf");
const PASSED: &str = include_str!("templates/nginx-passed.conf");

/// The whole file.
pub fn text(site: &Site) -> String {
    let (mut http, mut stream) = (String::new(), String::new());
    for (side, ended) in [(&site.operators, OPERATORS), (&site.agents, AGENTS)] {
        let (template, to) = match side.ends {
            true => (ended, &mut http),
            false => (PASSED, &mut stream),
        };
        to.push('\n');
        to.push_str(&fill(template, site, side));
    }
    let mut text = HEAD.to_owned();
    for (block, inside) in [(HTTP, http), (STREAM, stream)] {
        if !inside.is_empty() {
            let _ = write!(text, "\n{}}}\n", block.replace("@INSIDE@\n", &inside));
        }
    }
    text
}

fn fill(template: &str, site: &Site, side: &Side) -> String {
    let servers: String = side
        .servers
        .iter()
        .map(|server| format!("        server {server} max_fails=1 fail_timeout=5s;\n"))
        .collect();
    let upstream = if side.is_plain { "" } else { UPSTREAM_TLS };
    let header = if side.proxy_protocol { PROXY_PROTOCOL } else { NO_PROXY_PROTOCOL };
    template
        .replace("        @SERVERS@\n", &servers)
        .replace("        @UPSTREAM_TLS@\n", upstream)
        .replace("        @PROXY_PROTOCOL@\n", header)
        .replace("@SCHEME@", if side.is_plain { "http" } else { "https" })
        .replace("@SIDE@", side.name)
        .replace("@LISTEN@", &side.listen(""))
        .replace("@CERTIFICATE@", &site.certificate)
        .replace("@CA@", &site.ca)
        .replace("@NAME@", &site.name)
        .replace("@ANSWER@", &site.answer_s.to_string())
        .replace("@BODY@", &side.body_mib.to_string())
}

const UPSTREAM_TLS: &str =
    "            # Instances are believed by the installation's own CA, and nobody else is.
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate @CA@;
            proxy_ssl_name @NAME@;
            proxy_ssl_server_name on;
            proxy_ssl_protocols TLSv1.2 TLSv1.3;
";

const PROXY_PROTOCOL: &str =
    "        # Whose connection it is: this machine must be in listeners.proxy_protocol.
        proxy_protocol on;
";

const NO_PROXY_PROTOCOL: &str = "        # Instances take every client for this machine. To let them know better, put this machine
        # into listeners.proxy_protocol, and say here at the same time: proxy_protocol on;
";
