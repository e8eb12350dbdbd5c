//! What an agent says of its machine and itself.

use serde::{Deserialize, Serialize};

use crate::frame::{Error, limit};

const TEXT_BYTES_MAX: usize = 1024;
const CAPABILITIES_MAX: usize = 256;

/// The capability of an agent that takes [`crate::Cas`] while it is linked.
pub const CAP_CAS: &str = "cas";

/// Facts about the machine and the agent program; the agent's claim, for people and for choosing
/// what it can be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Its name, as it calls itself.
    pub hostname: String,
    /// `linux`, `windows` or `darwin`.
    pub platform: String,
    /// For example `Debian GNU/Linux`.
    #[serde(default)]
    pub os_name: String,
    /// For example `12 (bookworm)`.
    #[serde(default)]
    pub os_version: String,
    /// For example `x86_64`.
    #[serde(default)]
    pub arch: String,
    /// Version of the agent program.
    #[serde(default)]
    pub version: String,
    /// Words for what it can do: `table:processes`, `cancel`.
    #[serde(default)]
    pub capabilities: Vec<String>,
}

impl HostFacts {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let texts = [
            &self.hostname,
            &self.platform,
            &self.os_name,
            &self.os_version,
            &self.arch,
            &self.version,
        ];
        for text in texts.into_iter().chain(&self.capabilities) {
            limit("a fact about the host", text.len(), TEXT_BYTES_MAX)?;
        }
        limit("the list of capabilities", self.capabilities.len(), CAPABILITIES_MAX)
    }
}
