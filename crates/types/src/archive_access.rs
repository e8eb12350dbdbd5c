//! How an archive that is not a folder is reached.

use serde::{Deserialize, Serialize};

/// What an object store's URL does not say. What is left out comes from the environment (`AWS_…`,
/// `GOOGLE_…`, `AZURE_…`), or from the machine's own identity in its cloud.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ArchiveAccess {
    /// The service's address, for stores that are not Amazon's.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// Who asks,
    pub access_key_id: Option<String>,
    /// and the secret for it. Never shown by `Debug`.
    pub secret_access_key: Option<String>,
    /// Plain HTTP is allowed.
    pub allow_http: bool,
    /// The bucket is named in the path and not in the host. `None`: as the store's kind has it, which
    /// is in the path for a configured endpoint.
    pub path_style: Option<bool>,
}

impl std::fmt::Debug for ArchiveAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArchiveAccess")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("access_key_id", &self.access_key_id)
            .field("secret_access_key", &self.secret_access_key.as_ref().map(|_| "…"))
            .field("allow_http", &self.allow_http)
            .field("path_style", &self.path_style)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_not_shown() {
        let secret = Some("s3cr3t".to_owned());
        let access = ArchiveAccess { secret_access_key: secret, ..ArchiveAccess::default() };
        assert!(!format!("{access:?}").contains("s3cr3t"));
    }
}
