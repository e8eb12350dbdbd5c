//! What the agent says of its machine.

use std::path::Path;

use muster_codec_native::{CAP_CAS, HostFacts};

use crate::AgentOptions;
use crate::tables;

/// Name, system and abilities.
pub(crate) fn facts(options: &AgentOptions) -> HostFacts {
    let os = tables::OsRelease::read();
    let uname = rustix::system::uname();
    let mut capabilities = vec!["cancel".to_owned(), CAP_CAS.to_owned()];
    capabilities.extend(tables::names().iter().map(|name| format!("table:{name}")));
    HostFacts {
        hostname: options.hostname.clone().unwrap_or_else(tables::hostname),
        platform: "linux".to_owned(),
        os_name: os.get("NAME").unwrap_or("Linux").to_owned(),
        os_version: os
            .get("VERSION")
            .or_else(|| os.get("VERSION_ID"))
            .unwrap_or_default()
            .to_owned(),
        arch: uname.machine().to_string_lossy().into_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        capabilities,
    }
}

/// Identity of this boot.
pub(crate) fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// Identity of the machine: systemd's, else the firmware's, else one of our own in the data folder.
pub(crate) fn machine_id(options: &AgentOptions) -> std::io::Result<String> {
    if let Some(given) = &options.machine_id {
        return Ok(given.clone());
    }
    let id = |path: &Path| {
        let text = std::fs::read_to_string(path).ok()?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    let known = id(Path::new("/etc/machine-id")).filter(|id| id != "uninitialized");
    if let Some(id) = known.or_else(tables::machine_uuid) {
        return Ok(id);
    }
    let path = options.data_dir.join("machine-id");
    if let Some(id) = id(&path) {
        return Ok(id);
    }
    let made = uuid::Uuid::new_v4().simple().to_string();
    crate::state::replace_file(&path, made.as_bytes())?;
    Ok(made)
}
