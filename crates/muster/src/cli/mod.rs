//! The command line: a thin client of the API, and the start of servers and agents.

mod account;
mod agent;
mod agent_leave;
mod approval;
mod args;
mod backup;
mod banner;
mod beside_the_store;
mod ca;
mod config;
mod context;
mod debug;
mod doctor;
#[cfg(test)]
mod documented;
mod endpoint;
mod generate;
mod hunt;
mod import;
mod instances;
mod join;
mod label_rule;
#[cfg(feature = "loadgen")]
mod loadgen;
mod migrate;
mod migrate_store;
mod node_key;
mod osquery_config;
pub mod output;
mod plain;
mod policy;
mod probe;
mod query;
mod results;
mod schedule;
mod scope;
mod session;
mod shard;
mod sink;
mod sink_add;
mod up;
mod upload;
mod watch;
mod yara;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::client::{CliError, Exit};
use args::{Args, Command};
use plain::ArtifactCommand;
use session::Session;

/// Parses the command line and runs it.
pub fn main() -> ExitCode {
    let args = Args::parse();
    match args.command {
        Command::SqlWorker => return sql_worker(),
        Command::AgentQuery => return muster_agent::query::child_main(),
        _ => {}
    }
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("muster: {error}");
            ExitCode::from(error.exit as u8)
        }
    }
}

fn run(args: Args) -> Result<(), CliError> {
    let Args { context, output, command } = args;
    if let Command::User(account::User::Reset { name, stores }) = &command
        && let Some(stores) = stores.wanted(context.as_deref())
    {
        return beside_the_store::reset(&stores, output, name);
    }
    match command {
        Command::Up { server, no_agent } => up::up(&server, no_agent),
        Command::Server { server, roles } => up::server(&server, &roles),
        Command::Agent(command) => agent::run(command),
        Command::Config(command) => config::run(command),
        Command::Migrate(command) => migrate::run(&command, output),
        Command::Probe(args) => probe::run(&args),
        Command::Context(command) => context::run(command, output),
        Command::Artifact(ArtifactCommand::Check { file }) => plain::artifact_check(&file),
        Command::Backup(command) => backup::run(command, output),
        Command::Restore(args) => backup::restore(&args),
        Command::MigrateStore(args) => migrate_store::run(&args),
        Command::Shard(command) => shard::run(command, output),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Args::command(), "muster", &mut std::io::stdout());
            Ok(())
        }
        #[cfg(feature = "loadgen")]
        Command::Loadgen(command) => loadgen::run(command),
        command => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| CliError::new(Exit::Refused, error.to_string()))?;
            runtime.block_on(ask(context.as_deref(), output, command))
        }
    }
}

/// Commands that talk to a server.
async fn ask(
    context: Option<&str>,
    format: output::Format,
    command: Command,
) -> Result<(), CliError> {
    match command {
        Command::Login(args) => return account::login(context, args).await,
        Command::Logout => return account::logout(context).await,
        Command::Doctor(command) => return doctor::run(command, context, format).await,
        Command::Generate(command) => return generate::run(context, format, command).await,
        _ => {}
    }
    let session = Session::open(context, format)?;
    match command {
        Command::Query(args) => query::run(&session, args).await,
        Command::Collect(args) => hunt::collect(&session, args).await,
        Command::Hunt(command) => hunt::run(&session, command).await,
        Command::Results(args) => results::results(&session, args).await,
        Command::Sql(args) => results::sql(&session, args).await,
        Command::History(args) => plain::history(&session, args).await,
        Command::Endpoints(args) => plain::endpoints(&session, args).await,
        Command::Endpoint(command) => endpoint::run(&session, command).await,
        Command::Agents(args) => plain::agents(&session, args).await,
        Command::Approval(command) => approval::run(&session, command).await,
        Command::Label(command) => plain::label(&session, command).await,
        Command::Policy(command) => policy::run(&session, command).await,
        Command::Upload(command) => upload::run(&session, command).await,
        Command::Enrolment(command) => plain::enrolment(&session, command).await,
        Command::NodeKey(command) => node_key::run(&session, command).await,
        Command::Ca(command) => ca::run(&session, context, command).await,
        Command::Artifact(command) => plain::artifact(&session, command).await,
        Command::Schedule(command) => schedule::run(&session, command).await,
        Command::OsqueryConfig(command) => osquery_config::run(&session, command).await,
        Command::Yara(command) => yara::run(&session, command).await,
        Command::Import(command) => import::run(&session, command).await,
        Command::Sink(command) => sink::run(&session, command).await,
        Command::Whoami => account::whoami(&session).await,
        Command::User(command) => account::user(&session, command).await,
        Command::Token(command) => account::token(&session, command).await,
        Command::Audit(command) => plain::audit(&session, command).await,
        Command::Debug(command) => debug::run(&session, command).await,
        Command::Storage => plain::storage(&session).await,
        Command::Instances(args) => instances::run(&session, args).await,
        _ => Err(CliError::usage("this command needs no server")),
    }
}

#[cfg(feature = "sql")]
fn sql_worker() -> ExitCode {
    muster_query::worker_main()
}

#[cfg(not(feature = "sql"))]
fn sql_worker() -> ExitCode {
    eprintln!("muster: this build has no SQL engine (feature `sql`)");
    ExitCode::FAILURE
}
