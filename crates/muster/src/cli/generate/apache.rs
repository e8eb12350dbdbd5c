//! Apache httpd: it ends TLS, since it cannot pass it on.

use super::site::{Side, Site};
use crate::client::CliError;

const HEAD: &str = include_str!("templates/apache.conf");
const OPERATORS: &str = include_str!("templates/apache-operators.conf");
const AGENTS: &str = include_str!("templates/apache-agents.conf");

/// The whole site.
///
/// # Errors
/// When TLS is to be passed.
pub fn text(site: &Site) -> Result<String, CliError> {
    if !site.operators.ends || !site.agents.ends {
        let message = "Apache httpd cannot pass TLS on; use --tls end, or nginx or haproxy";
        return Err(CliError::usage(message));
    }
    let mut text = HEAD.to_owned();
    for (side, template) in [(&site.operators, OPERATORS), (&site.agents, AGENTS)] {
        text.push('\n');
        text.push_str(&fill(template, site, side));
    }
    Ok(text)
}

fn fill(template: &str, site: &Site, side: &Side) -> String {
    let scheme = if side.is_plain { "http" } else { "https" };
    let members: String = side
        .servers
        .iter()
        .map(|server| {
            format!(
                "        BalancerMember {scheme}://{server} connectiontimeout=2 retry=2 ttl=3 \
                 upgrade=websocket flushpackets=on \\\n            \
                 hcmethod=GET hcuri=/readyz hcinterval=1 hcpasses=2 hcfails=1\n"
            )
        })
        .collect();
    let upstream = if side.is_plain { "" } else { UPSTREAM_TLS };
    template
        .replace("        @MEMBERS@\n", &members)
        .replace("    @UPSTREAM_TLS@\n", upstream)
        .replace("@SIDE@", side.name)
        .replace("@LISTEN@", &side.listen(""))
        .replace("@HOST@", &side.listen("*:"))
        .replace("@CERTIFICATE@", &site.certificate)
        .replace("@CA@", &site.ca)
        .replace("@ANSWER@", &site.answer_s.to_string())
        .replace("@BODY@", &(side.body_mib << 20).to_string())
}

const UPSTREAM_TLS: &str = "    # Instances are believed by the installation's own CA, which signs for nobody else. So the name
    # in the certificate adds nothing, and httpd could not compare an address with it.
    SSLProxyEngine on
    SSLProxyVerify require
    SSLProxyCACertificateFile @CA@
    SSLProxyCheckPeerName off
    SSLProxyProtocol -all +TLSv1.2 +TLSv1.3
";
