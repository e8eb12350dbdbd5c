//! HAProxy: `mode http` where it ends TLS, `mode tcp` where it passes it.

use super::site::{Side, Site};

const HEAD: &str = include_str!("templates/haproxy.cfg");
const OPERATORS: &str = include_str!("templates/haproxy-operators.cfg");
const AGENTS: &str = include_str!("templates/haproxy-agents.cfg");
const PASSED: &str = include_str!("templates/haproxy-passed.cfg");

/// The whole file.
pub fn text(site: &Site) -> String {
    let mut text = HEAD.to_owned();
    for (side, ended) in [(&site.operators, OPERATORS), (&site.agents, AGENTS)] {
        text.push('\n');
        text.push_str(&fill(if side.ends { ended } else { PASSED }, site, side));
    }
    text
}

fn fill(template: &str, site: &Site, side: &Side) -> String {
    let verify = format!("verify required ca-file {} verifyhost {}", site.ca, site.name);
    let mut how = match (side.ends, side.is_plain) {
        (true, true) => "check".to_owned(),
        (true, false) => {
            format!("ssl {verify} sni str({0}) alpn http/1.1 check check-sni {0}", site.name)
        }
        // Only the check speaks TLS itself.
        (false, _) => format!("check check-ssl check-sni {} {verify}", site.name),
    };
    if side.proxy_protocol {
        how.push_str(" send-proxy-v2 check-send-proxy");
    }
    let servers: String = side
        .numbered()
        .map(|(name, server)| format!("    server {name} {server} {how}\n"))
        .collect();
    template
        .replace("    @SERVERS@\n", &servers)
        .replace("@SIDE@", side.name)
        .replace("@LISTEN@", &side.listen(":"))
        .replace("@CERTIFICATE@", &site.certificate)
        .replace("@ANSWER@", &site.answer_s.to_string())
        .replace("@BODY@", &(side.body_mib << 20).to_string())
}
