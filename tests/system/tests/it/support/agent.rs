//! Real agents, in processes of their own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use muster_testkit::{Server, binary, wait_for};

use super::SOON;

/// A running `muster agent run`.
pub struct AgentProcess(Child);

impl AgentProcess {
    /// Runs an agent that has enrolled in `data` before.
    pub fn run(server: &Server, data: &Path) -> anyhow::Result<Self> {
        Self::run_trusting(server, data, &server.data_dir().join("ca.pem"))
    }

    /// Runs one whose configured CAs are in this file.
    pub fn run_trusting(server: &Server, data: &Path, ca: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(binary()?);
        command
            .args(["agent", "run", "--server", &server.agents_url()])
            .arg("--ca")
            .arg(ca)
            .arg("--data")
            .arg(data);
        Self::spawn(command)
    }

    /// Runs an agent with a command line of its own.
    pub fn spawn(mut command: Command) -> anyhow::Result<Self> {
        command
            .env("MUSTER_LOG__LEVEL", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit());
        command.spawn().context("start the agent").map(Self)
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        self.end();
    }
}

/// The process id of the agent that `muster up` runs beside itself.
pub fn companion(server: &Server) -> anyhow::Result<u32> {
    let parent = server.pid().context("the server is not running")?;
    wait_for("the server's own agent", SOON, || {
        let found = children(parent)?.into_iter().find(|pid| {
            let cmdline = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            cmdline.split(|byte| *byte == 0).any(|word| word == b"--with-parent")
        });
        Ok(found)
    })
}

fn children(parent: u32) -> anyhow::Result<Vec<u32>> {
    let tasks = PathBuf::from(format!("/proc/{parent}/task"));
    let mut children = Vec::new();
    for task in std::fs::read_dir(tasks)? {
        let text = std::fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        children.extend(text.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    Ok(children)
}
