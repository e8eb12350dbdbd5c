//! `muster doctor`: checks a deployment from outside. Each finding has a remedy; any finding is exit 1.

use clap::Args;
use serde_json::Value;

use super::session::Session;
use crate::client::{CliError, Client, Contexts, Exit};

/// Clocks further apart than this are a finding.
const SKEW_SECONDS_MAX: i64 = 5;
/// Fewer open files than this are a finding: each agent is one.
const NOFILE_MIN: u64 = 8192;

/// Flags of `muster doctor`.
#[derive(Args)]
pub struct Doctor {}

struct Finding {
    name: &'static str,
    problem: String,
    remedy: String,
}

/// Runs the checks.
pub async fn run(context: Option<&str>, format: super::output::Format) -> Result<(), CliError> {
    let contexts = Contexts::load(&Contexts::default_path())?;
    let (name, context) = contexts.select(context)?;
    let session = Session { client: Client::new(&context)?, format };
    let mut findings = Vec::new();
    match session.client.get::<Value>("/v1/version").await {
        Ok(version) => check_version(&version, &mut findings),
        Err(error) => return Err(error),
    }
    match session.client.get::<Value>("/v1/storage").await {
        Ok(storage) => check_storage(&storage, &mut findings),
        Err(error) => findings.push(Finding {
            name: "storage",
            problem: error.to_string(),
            remedy: "sign in as an administrator of everything".into(),
        }),
    }
    if let Ok(verified) = session.client.get::<Value>("/v1/audit/verify").await
        && verified["intact"].as_bool() == Some(false)
    {
        findings.push(Finding {
            name: "audit",
            problem: format!("the audit log was changed: {verified}"),
            remedy: "compare it with a backup; somebody with access to the store edited it".into(),
        });
    }
    check_here(&mut findings);
    for finding in &findings {
        println!("{}: {}\n    {}", finding.name, finding.problem, finding.remedy);
    }
    if findings.is_empty() {
        session.say(&format!("{name}: nothing to complain about"));
        return Ok(());
    }
    Err(CliError::new(Exit::Refused, format!("{} finding(s)", findings.len())))
}

fn check_version(version: &Value, findings: &mut Vec<Finding>) {
    let own = env!("CARGO_PKG_VERSION");
    if let Some(server) = version["version"].as_str()
        && server != own
    {
        findings.push(Finding {
            name: "version",
            problem: format!("the server is {server}, this program is {own}"),
            remedy: "use the same version on both sides, or neighbouring ones while upgrading"
                .into(),
        });
    }
    let parsed = version["now"].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok());
    if let Some(server) = parsed {
        let skew = (jiff::Timestamp::now().as_second() - server.as_second()).abs();
        if skew > SKEW_SECONDS_MAX {
            findings.push(Finding {
                name: "clock",
                problem: format!("the server's clock and this machine's are {skew} s apart"),
                remedy: "run a time service (chrony, systemd-timesyncd) on both".into(),
            });
        }
    }
}

fn check_storage(storage: &Value, findings: &mut Vec<Finding>) {
    if storage["stream"]["stopped"].as_bool() == Some(true) {
        findings.push(Finding {
            name: "stream",
            problem: "intake has stopped: the stream's quota or the free disk is used up".into(),
            remedy: "free disk space on the data volume; agents keep their rows until then".into(),
        });
    }
}

fn check_here(findings: &mut Vec<Finding>) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if let Some(most) = limit.maximum
        && most < NOFILE_MIN
    {
        findings.push(Finding {
            name: "nofile",
            problem: format!("a process here may open {most} files; each agent needs one"),
            remedy: "raise it: LimitNOFILE=1048576 in the systemd unit".into(),
        });
    }
}
