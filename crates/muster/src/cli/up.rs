//! `muster up` and `muster server`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use muster_authority::Authorities;
use muster_types::{Clock, OrgId, SystemClock};
use secrecy::ExposeSecret as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::args::ServerArgs;
use super::banner::Banner;
use super::config::load_with;
use crate::client::{CliError, Context, Contexts};
use crate::config::{Config, RoleName};
use crate::server::runtimes::Runtimes;
use crate::server::{self, Server, ca_file, identity, logging, names};

/// The context `up` leaves for the user who started it.
const CONTEXT: &str = "local";
/// How long the banner waits for this machine's own agent.
const AGENT_WAIT: Duration = Duration::from_secs(3);

/// What a server needs of its process: files that only its owner may read, and as many open files as it may
/// have, because each agent is one.
fn prepare_process() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};
    umask(rustix::fs::Mode::from_raw_mode(0o077));
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        eprintln!("muster: the limit on open files stays at {:?}: {error}", limit.current);
    }
}

/// `muster server`: from a configuration file, without an agent or a banner.
pub fn server(args: &ServerArgs, roles: &[RoleName]) -> Result<(), CliError> {
    let config = load_with(&Config::default(), args, roles)?;
    prepare_process();
    let telling = logging::install_server(&config)?;
    let told = telling.told.clone();
    let runtimes = Runtimes::new()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let server = runtimes.work.block_on(Server::build(config, clock, told))?;
    for skipped in server.skipped() {
        tracing::warn!("port {skipped}; the next one is taken");
    }
    let addresses = (server.operators_address(), server.agents_address());
    tracing::info!(operators = %addresses.0, agents = %addresses.1, "serving");
    runtimes.work.block_on(first_administrator(&server))?;
    let (certificates, data) = (server.certificates(), server.data_dir().to_owned());
    tracing::info!(sha256 = certificates.fingerprint()?, "the CA that signs");
    // Watched before it is written: a change in between is not missed.
    let cas = certificates.authorities();
    ca_file::try_write(&data, &certificates.ca_pem());
    let again = || Ok(load_with(&Config::default(), args, roles)?);
    let following = |token: CancellationToken| async move {
        token.run_until_cancelled(ca_file::follow(data, cas)).await;
    };
    let ended = server::run(server, &runtimes, telling.level.clone(), again, following);
    telling.end();
    Ok(ended?)
}

/// `muster up`: everything embedded, this machine enrolled, and a page that says how to go on.
pub fn up(args: &ServerArgs, no_agent: bool) -> Result<(), CliError> {
    let mut defaults = Config::default();
    defaults.log.level = "warn".into();
    let config = load_with(&defaults, args, &[])?;
    prepare_process();
    let telling = logging::install_server(&config)?;
    let told = telling.told.clone();
    let runtimes = Runtimes::new()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let data = config.data_dir.clone();
    let (server, first) = runtimes.work.block_on(async {
        let server = Box::pin(Server::build(config, clock.clone(), told)).await?;
        let first = FirstStart::prepare(&server, &*clock).await?;
        anyhow::Ok((server, first))
    })?;
    let certificates = server.certificates();
    let mut left = Left {
        data: data.clone(),
        address: names::own_url(server.operators_address()),
        token: first.token.clone(),
        begun: false,
    };
    left.renew(&certificates.ca_pem())?;
    let agent = if no_agent { None } else { Some(Companion::prepare(&server, &first)?) };
    let banner = Banner {
        skipped: server.skipped().iter().map(ToString::to_string).collect(),
        operators: server.operators_address(),
        agents: server.agents_address(),
        host: names::reachable_address(&names::addresses()),
        metrics: server.metrics_address(),
        data: data.clone(),
        fingerprint: certificates.fingerprint()?,
        password: first.password,
        secret: first.secret,
    };
    let sessions = server.sessions();
    let again = || Ok(load_with(&defaults, args, &[])?);
    let ended =
        server::run(server, &runtimes, telling.level.clone(), again, move |token| async move {
            let cas = certificates.authorities();
            let following = token.run_until_cancelled(left.follow(cas));
            let Some(agent) = agent else {
                banner.print();
                following.await;
                return;
            };
            let printed = async {
                let linked = async {
                    while sessions.is_empty() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                let linked = tokio::time::timeout(AGENT_WAIT, linked).await.is_ok();
                banner.print();
                if !linked {
                    eprintln!("this machine's own agent is not connected yet; it keeps trying");
                }
            };
            tokio::join!(agent.supervise(&token), printed, following);
        });
    telling.end();
    ended?;
    eprintln!("\nmuster has stopped; everything is kept in {}", data.display());
    Ok(())
}

/// On a fresh store somebody must be able to sign in. The password goes to a file for its owner only:
/// logs travel.
async fn first_administrator(server: &Server) -> anyhow::Result<()> {
    let now = SystemClock.now();
    let made = muster_api::auth::bootstrap::bootstrap_admin(server.catalog(), now).await;
    if let Some(password) = made.context("make the first administrator")? {
        let path = server.data_dir().join("admin-password");
        identity::write_private(&path, format!("{}\n", password.expose_secret()).as_bytes())?;
        tracing::warn!(file = %path.display(), "first administrator: admin, one-time password in this file; remove it");
    }
    Ok(())
}

/// What the catalog has to hold before anybody can use it.
struct FirstStart {
    /// Of the administrator, on the very first start.
    password: Option<String>,
    /// For agents that enrol with the line of the banner.
    secret: String,
    /// For the context of the user who started it.
    token: String,
}

impl FirstStart {
    async fn prepare(server: &Server, clock: &dyn Clock) -> anyhow::Result<Self> {
        let (catalog, now) = (server.catalog(), clock.now());
        let password = muster_api::auth::bootstrap::bootstrap_admin(catalog, now)
            .await
            .context("make the first administrator")?;
        let token = muster_api::auth::bootstrap::local_token(catalog, now)
            .await
            .context("make a token for this user")?;
        let path = server.data_dir().join("enrol-secret");
        let secret = match std::fs::read_to_string(&path) {
            Ok(kept) => kept.trim().to_owned(),
            Err(_) => {
                let new = muster_endpoints::NewSecret {
                    name: "up".into(),
                    ..muster_endpoints::NewSecret::default()
                };
                let org = OrgId::DEFAULT;
                let (_, made) = muster_endpoints::create_secret(catalog, org, &new, "up", now)
                    .await
                    .context("make an enrolment secret")?;
                identity::write_private(&path, made.as_bytes())?;
                made
            }
        };
        Ok(Self {
            password: password.map(|password| password.expose_secret().to_owned()),
            secret,
            token: token.expose().to_owned(),
        })
    }
}

/// What the user who started it has besides: they need no login. A context with a token, readable by
/// them only, and the CA in a file.
struct Left {
    data: PathBuf,
    /// Of the operators' listener.
    address: String,
    token: String,
    /// Whether the context was made the current one.
    begun: bool,
}

impl Left {
    fn renew(&mut self, ca_pem: &str) -> anyhow::Result<()> {
        ca_file::write(&self.data, ca_pem)?;
        let mut contexts = Contexts::load(&Contexts::default_path())?;
        let context = Context {
            address: self.address.clone(),
            ca_pem: Some(ca_pem.to_owned()),
            token: Some(self.token.clone()),
        };
        contexts.contexts.insert(CONTEXT.into(), context);
        // Who goes to another one later stays there.
        if !std::mem::replace(&mut self.begun, true) {
            contexts.current = Some(CONTEXT.into());
        }
        contexts.save()
    }

    /// When the CAs change, the context trusts the new ones.
    async fn follow(mut self, mut cas: watch::Receiver<Arc<Authorities>>) {
        while cas.changed().await.is_ok() {
            let pem = cas.borrow_and_update().trusted_pem();
            if let Err(error) = self.renew(&pem) {
                tracing::warn!("the context {CONTEXT} keeps the CAs it had: {error:#}");
            }
        }
    }
}

/// This machine's own agent: a child process, started again when it ends.
struct Companion {
    program: PathBuf,
    config: PathBuf,
}

impl Companion {
    fn prepare(server: &Server, first: &FirstStart) -> anyhow::Result<Self> {
        let dir = server.data_dir().join("agent");
        identity::prepare_data_dir(&dir)?;
        let dir = std::path::absolute(&dir).context("name the agent's folder")?;
        let file = |name: &str, text: &str| -> anyhow::Result<PathBuf> {
            let path = dir.join(name);
            identity::write_private(&path, text.as_bytes())?;
            Ok(path)
        };
        let config = muster_agent::AgentConfig {
            servers: vec![names::own_url(server.agents_address())],
            ca: file("ca.pem", &server.certificates().ca_pem())?,
            data: dir.join("data"),
            secret_file: Some(file("secret", &first.secret)?),
            // The environment's proxy is for the way out, not for this machine.
            proxy: None,
            buffer_mib: 256,
        };
        let text = serde_norway::to_string(&config).context("write the agent's file")?;
        let config = file("agent.yaml", &text)?;
        let program = std::env::current_exe().context("find this program")?;
        Ok(Self { program, config })
    }

    /// Keeps it running until `shutdown`.
    async fn supervise(&self, shutdown: &CancellationToken) {
        let mut wait = Duration::from_millis(200);
        loop {
            let started = tokio::time::Instant::now();
            match self.run(shutdown).await {
                Ok(()) => return,
                Err(problem) => tracing::warn!("this machine's agent ended: {problem}"),
            }
            // It ran well for a while: the next trouble is a new one.
            if started.elapsed() > Duration::from_secs(60) {
                wait = Duration::from_millis(200);
            }
            if shutdown.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
            wait = (wait * 2).min(Duration::from_secs(30));
        }
    }

    async fn run(&self, shutdown: &CancellationToken) -> anyhow::Result<()> {
        let mut child = self.command().spawn().context("start it")?;
        let ended = shutdown.run_until_cancelled(child.wait()).await;
        match ended {
            Some(status) => anyhow::bail!("{}", status.context("wait for it")?),
            None => {
                // It saves its buffer and goes; one that hangs is killed.
                if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok())
                    && let Some(pid) = rustix::process::Pid::from_raw(pid)
                {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
                }
                if tokio::time::timeout(Duration::from_secs(5), child.wait()).await.is_err() {
                    let _ = child.kill().await;
                }
                Ok(())
            }
        }
    }

    fn command(&self) -> tokio::process::Command {
        let level = std::env::var("MUSTER_LOG__LEVEL").unwrap_or_else(|_| "error".into());
        let mut command = tokio::process::Command::new(&self.program);
        command
            .args([Path::new("agent"), Path::new("run"), Path::new("--with-parent")])
            .arg("--config")
            .arg(&self.config)
            .env("MUSTER_LOG__LEVEL", level)
            .env("no_proxy", "*")
            .stdin(std::process::Stdio::null())
            // Ctrl-C goes to the server, which ends the agent in its turn.
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}
