//! Files that are the same for everybody.

/// The template unit, which is also in `deploy/`.
const UNIT: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/muster@.service"));

/// A drop-in, which is also in `deploy/`.
const ROLES: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/muster@.service.d/roles.conf"));

/// The compose file, which is also in `deploy/`.
pub const COMPOSE: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/compose.yaml"));

/// The template unit, and after it what one instance may be given besides, as comments.
pub fn systemd() -> String {
    let roles: String =
        ROLES.lines().map(|line| format!("# {line}\n").replace("# \n", "#\n")).collect();
    format!(
        "# /etc/systemd/system/muster@.service\n{UNIT}\n\
         # /etc/systemd/system/muster@NAME.service.d/roles.conf, for an instance with some roles only:\n\
         #\n{roles}"
    )
}
