//! What is shipped: the binary of the `dist` profile, the licence and the documents, in one folder.

use anyhow::Context;

use crate::steps::{self, cargo, root, target_dir};

/// Builds it.
pub fn run() -> anyhow::Result<()> {
    steps::run(&mut cargo(&["build", "--locked", "--profile", "dist", "-p", "muster"]))?;
    let folder = target_dir().join("dist").join(concat!("muster-", env!("CARGO_PKG_VERSION")));
    std::fs::create_dir_all(&folder).context("create the folder")?;
    std::fs::copy(target_dir().join("dist/muster"), folder.join("muster"))
        .context("copy muster")?;
    for file in ["LICENSE", "README.md", "CHANGELOG.md"] {
        std::fs::copy(root().join(file), folder.join(file))
            .with_context(|| format!("copy {file}"))?;
    }
    println!("{}", folder.display());
    Ok(())
}
