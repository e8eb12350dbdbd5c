//! The shape of the command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::account::{Login, Token, User};
use super::context::ContextCommand;
use super::endpoint::Endpoint;
use super::generate::Generate;
use super::hunt::{Collect, Hunt};
use super::import::ImportCommand;
use super::osquery_config::OsqueryConfig;
use super::output::Format;
use super::plain::{ArtifactCommand, Audit, Endpoints, Enrolment, History, Label};
use super::policy::Policy;
use super::query::Query;
use super::results::{Results, Sql};
use super::schedule::Schedule;
use super::yara::Yara;
use crate::config::RoleName;

/// Incident response: ask every machine a question, keep every answer.
#[derive(Parser)]
#[command(name = "muster", version, about, max_term_width = 100)]
pub struct Args {
    /// Which server to talk to (see `muster context list`).
    #[arg(long, global = true, env = "MUSTER_CONTEXT")]
    pub context: Option<String>,
    /// How to print answers.
    #[arg(long, short = 'o', global = true, value_enum, default_value_t)]
    pub output: Format,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where a server's configuration comes from.
#[derive(clap::Args, Clone, Default)]
pub struct ServerArgs {
    /// Configuration file (YAML).
    #[arg(long, short = 'c', env = "MUSTER_CONFIG")]
    pub config: Option<PathBuf>,
    /// Folder for everything the server keeps.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// A name or address to put into the server's certificate (repeatable).
    #[arg(long = "name")]
    pub names: Vec<String>,
}

/// All commands.
#[derive(Subcommand)]
pub enum Command {
    /// Start a server here with everything embedded, and enrol this machine.
    Up {
        /// Its configuration.
        #[command(flatten)]
        server: ServerArgs,
        /// Do not enrol this machine.
        #[arg(long)]
        no_agent: bool,
    },
    /// Start a server from a configuration file; start it again elsewhere for more.
    Server {
        /// Its configuration.
        #[command(flatten)]
        server: ServerArgs,
        /// What this instance does, with commas between (default all).
        #[arg(long, alias = "role", value_enum, value_delimiter = ',')]
        roles: Vec<RoleName>,
    },
    /// Muster's own endpoint agent.
    #[command(subcommand)]
    Agent(super::agent::AgentCommand),

    /// Ask online endpoints a SQL question; rows come as they are answered.
    Query(Query),
    /// Run one artifact on some endpoints.
    Collect(Collect),
    /// Ask every endpoint in a scope, now or when it comes back.
    #[command(subcommand)]
    Hunt(Hunt),
    /// Print the rows of a hunt, query or collection.
    Results(Results),
    /// SQL over everything that was ever collected.
    Sql(Sql),
    /// What was asked before.
    History(History),
    /// List endpoints.
    Endpoints(Endpoints),
    /// One endpoint.
    #[command(subcommand)]
    Endpoint(Endpoint),
    /// List agents.
    Agents(super::plain::Agents),
    /// Files taken from endpoints.
    #[command(subcommand)]
    Upload(super::upload::Upload),
    /// Named sets of endpoints.
    #[command(subcommand)]
    Label(Label),
    /// What is checked on every endpoint.
    #[command(subcommand)]
    Policy(Policy),
    /// Secrets that let agents enrol.
    #[command(subcommand)]
    Enrolment(Enrolment),
    /// Keys that sign what osquery agents show with every request.
    #[command(subcommand)]
    NodeKey(super::node_key::NodeKey),
    /// CAs that agents and people trust to vouch for the servers.
    #[command(subcommand)]
    Ca(super::ca::Ca),
    /// Definitions of what to collect.
    #[command(subcommand)]
    Artifact(ArtifactCommand),
    /// What osquery agents run by themselves.
    #[command(subcommand)]
    Schedule(Schedule),
    /// What osquery agents are configured with, besides schedules.
    #[command(subcommand)]
    OsqueryConfig(OsqueryConfig),
    /// YARA rules that osquery agents fetch by name.
    #[command(subcommand)]
    Yara(Yara),
    /// Take over what another server was configured with.
    #[command(subcommand)]
    Import(ImportCommand),
    /// Files and lines for other programs.
    #[command(subcommand)]
    Generate(Generate),

    /// Where rows are sent besides: files, syslog, webhooks, Splunk, Elasticsearch.
    #[command(subcommand)]
    Sink(super::sink::Sink),

    /// Sign in.
    Login(Login),
    /// Sign out.
    Logout,
    /// Who is signed in.
    Whoami,
    /// Which servers this user talks to.
    #[command(subcommand)]
    Context(ContextCommand),
    /// People.
    #[command(subcommand)]
    User(User),
    /// Credentials of programs.
    #[command(subcommand)]
    Token(Token),
    /// What waits for a second person.
    #[command(subcommand)]
    Approval(super::approval::Approval),
    /// Who did and saw what.
    #[command(subcommand)]
    Audit(Audit),
    /// What is stored and how full it is.
    Storage,
    /// Running servers and their leases.
    Instances(super::instances::Instances),
    /// The catalog's layout: what is applied, add what is new, take away what is old.
    #[command(subcommand)]
    Migrate(super::migrate::Migrate),
    /// The configuration file.
    #[command(subcommand)]
    Config(super::config::ConfigCommand),
    /// Copy everything there is into a folder, while the server runs.
    Backup(super::backup::Backup),
    /// Put a backup into empty stores.
    Restore(super::backup::Restore),
    /// Move a stopped installation to the stores of another configuration.
    MigrateStore(super::migrate_store::MigrateStore),
    /// How far results are folded.
    #[command(subcommand)]
    Shard(super::shard::ShardCommand),
    /// What instances know of themselves, for finding faults.
    #[command(subcommand)]
    Debug(super::debug::Debug),
    /// Name what is wrong with an installation, and what to do; exit 1 when something is.
    Doctor(super::doctor::Doctor),
    /// Ask an instance on this machine whether it wants traffic; for health checks of containers.
    Probe(super::probe::Probe),
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },

    /// Simulated fleets, for tests and benchmarks.
    #[cfg(feature = "loadgen")]
    #[command(subcommand, hide = true)]
    Loadgen(super::loadgen::LoadgenCommand),
    /// Child process of the server: one query over results.
    #[command(hide = true)]
    SqlWorker,
    /// Child process of the agent: one query on this machine.
    #[command(hide = true)]
    AgentQuery,
}
