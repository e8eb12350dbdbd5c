//! Contexts: which server the command line talks to, and as whom. One file, readable by its owner only.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{CliError, Exit};

/// One server and how to reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// `https://host:port`.
    pub address: String,
    /// The only CA that is trusted for it, in PEM. Without one, the public ones are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// The token of the last sign-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// The file of contexts.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Contexts {
    /// The one that is used unless `--context` or `MUSTER_CONTEXT` names another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// All of them, by name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
    #[serde(skip)]
    path: PathBuf,
}

impl Contexts {
    /// Where the file is: `$MUSTER_CONFIG_DIR`, `$XDG_CONFIG_HOME/muster` or `~/.config/muster`.
    pub fn default_path() -> PathBuf {
        let var = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let dir = var("MUSTER_CONFIG_DIR")
            .or_else(|| var("XDG_CONFIG_HOME").map(|dir| dir.join("muster")))
            .or_else(|| var("HOME").map(|home| home.join(".config/muster")))
            .unwrap_or_else(|| PathBuf::from(".muster"));
        dir.join("contexts.yaml")
    }

    /// Reads the file; an absent one holds nothing.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let mut contexts: Self = match std::fs::read_to_string(path) {
            Ok(text) => serde_norway::from_str(&text)
                .with_context(|| format!("read {}; fix or remove it", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::default(),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        contexts.path = path.to_owned();
        Ok(contexts)
    }

    /// Writes the file whole or not at all, with mode 0600.
    pub fn save(&self) -> anyhow::Result<()> {
        let dir = self.path.parent().unwrap_or_else(|| Path::new("."));
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let temporary = self.path.with_extension(format!("{}.tmp", std::process::id()));
        let text = serde_norway::to_string(self).context("write contexts")?;
        let write = || {
            let mut options = std::fs::OpenOptions::new();
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            std::fs::rename(&temporary, &self.path)
        };
        write().with_context(|| format!("write {}", self.path.display()))
    }

    /// The context to use: the named one, or the current one.
    ///
    /// # Errors
    /// Sign-in errors that say how to get one.
    pub fn select(&self, name: Option<&str>) -> Result<(String, Context), CliError> {
        let help = "start a server here with `muster up`, or name one: \
                    muster context set NAME --address https://HOST:8443 --ca ca.pem, then muster login";
        let Some(name) = name.or(self.current.as_deref()) else {
            return Err(CliError::new(Exit::SignIn, format!("no server is set up; {help}")));
        };
        match self.contexts.get(name) {
            Some(context) => Ok((name.to_owned(), context.clone())),
            None => {
                let known: Vec<_> = self.contexts.keys().map(String::as_str).collect();
                let message = format!("no context {name:?}; known are: {}", known.join(", "));
                Err(CliError::usage(message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_saved_is_private_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/contexts.yaml");
        let mut contexts = Contexts::load(&path).unwrap();
        assert_eq!(contexts.select(None).unwrap_err().exit, Exit::SignIn);
        let local = Context { address: "https://localhost:8443".into(), ..Context::default() };
        contexts.contexts.insert("local".into(), local.clone());
        contexts.current = Some("local".into());
        contexts.save().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = Contexts::load(&path).unwrap();
        assert_eq!(read.select(None).unwrap(), ("local".into(), local));
        assert_eq!(read.select(Some("other")).unwrap_err().exit, Exit::Usage);
    }
}
