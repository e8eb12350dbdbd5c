//! `login`, `logout`, `whoami`, `user`, `token`: people and their credentials.

use std::io::{IsTerminal, Read, Write};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::beside_the_store::Beside;
use super::session::{Session, confirm};
use crate::client::{CliError, Client, Contexts, Exit};
use crate::config::Span;

/// `muster login`.
#[derive(Args)]
pub struct Login {
    /// Name; asked for when missing.
    pub name: Option<String>,
    /// Read the password from standard input instead of the terminal.
    #[arg(long)]
    pub password_stdin: bool,
}

/// Signs in and keeps the session's token in the context.
pub async fn login(context: Option<&str>, args: Login) -> Result<(), CliError> {
    let mut contexts = Contexts::load(&Contexts::default_path())?;
    let (context_name, mut context) = contexts.select(context)?;
    context.token = None;
    let client = Client::new(&context)?;
    let name = match args.name {
        Some(name) => name,
        None => ask("name: ")?,
    };
    let password = if args.password_stdin { read_stdin()? } else { ask_secret("password: ")? };
    let answer: Value =
        client.post("/v1/login", &json!({"name": name, "password": password})).await?;
    let token = answer["token"].as_str().map(str::to_owned);
    context.token = token.clone();
    if answer["must_change"].as_bool() == Some(true) {
        eprintln!("this password is for one sign-in; choose a new one");
        let new = ask_secret("new password: ")?;
        if new != ask_secret("once more: ")? {
            return Err(CliError::usage("the two are not the same; nothing was changed"));
        }
        let signed_in = Client::new(&context)?;
        let body = json!({"current_password": password, "new_password": new});
        let answer: Value = signed_in.post("/v1/password", &body).await?;
        // Changing the password ends other sessions; the answer may carry a fresh token.
        if let Some(token) = answer["token"].as_str() {
            context.token = Some(token.to_owned());
        }
    }
    let signed_in = Client::new(&context)?;
    contexts.contexts.insert(context_name.clone(), context);
    contexts.current.get_or_insert_with(|| context_name.clone());
    contexts.save()?;
    eprintln!("signed in as {name}");
    // The session is good without.
    if let Err(error) = super::ca::learn(&signed_in, Some(&context_name)).await {
        eprintln!("muster: this context keeps the CAs it had: {error}");
    }
    Ok(())
}

/// Ends the session on the server and forgets its token.
pub async fn logout(context: Option<&str>) -> Result<(), CliError> {
    let mut contexts = Contexts::load(&Contexts::default_path())?;
    let (name, mut context) = contexts.select(context)?;
    if context.token.is_some() {
        let ended: Result<Value, _> = Client::new(&context)?.post("/v1/logout", &json!({})).await;
        context.token = None;
        contexts.contexts.insert(name, context);
        contexts.save()?;
        ended?;
    }
    Ok(())
}

/// Prints who is signed in and what they may do.
pub async fn whoami(session: &Session) -> Result<(), CliError> {
    let me: Value = session.client.get("/v1/whoami").await?;
    session.object(&me)
}

/// `muster user …`.
#[derive(Subcommand)]
pub enum User {
    /// List accounts.
    List,
    /// Make an account; prints its one-time password.
    #[command(visible_alias = "add")]
    Create {
        /// Name to sign in with.
        name: String,
        /// A role: viewer, analyst, responder or administrator.
        #[arg(long, default_value = "viewer")]
        role: String,
        /// Only on endpoints with this label (repeatable); everything without.
        #[arg(long = "label")]
        labels: Vec<String>,
    },
    /// Replace an account's roles by one.
    Grant {
        /// Whose.
        name: String,
        /// The role.
        role: String,
        /// Only on endpoints with this label (repeatable); everything without.
        #[arg(long = "label")]
        labels: Vec<String>,
    },
    /// End all sessions and tokens of an account and lock it.
    Disable {
        /// Which.
        name: String,
    },
    /// Let a disabled account be used again.
    Enable {
        /// Which.
        name: String,
    },
    /// Give a new one-time password. With --data, --config or MUSTER_CONFIG it works beside the store,
    /// without signing in: for an administrator who locked everybody out.
    Reset {
        /// Whose.
        name: String,
        /// Whose store.
        #[command(flatten)]
        stores: Beside,
    },
    /// Change your own password.
    Password,
}

fn grant(role: &str, labels: &[String]) -> Value {
    if labels.is_empty() {
        return json!([{"role": role}]);
    }
    json!([{"role": role, "labels": labels}])
}

/// Runs `muster user …`; a reset beside the store is handled before.
pub async fn user(session: &Session, command: User) -> Result<(), CliError> {
    let client = &session.client;
    match command {
        User::List => {
            let columns = ["name", "roles", "must_change", "created_at", "disabled_at"];
            session.list("/v1/users", &[], &columns).await
        }
        User::Create { name, role, labels } => {
            let body = json!({"name": name, "roles": grant(&role, &labels)});
            session.object(&client.post("/v1/users", &body).await?)
        }
        User::Grant { name, role, labels } => {
            let body = json!({"roles": grant(&role, &labels)});
            let path = format!("/v1/users/{name}/roles");
            session.object(&client.send(Method::PUT, &path, &body).await?)
        }
        User::Disable { name } => {
            let _: Value = client.post(&format!("/v1/users/{name}/disable"), &json!({})).await?;
            session.say(&format!("{name} is disabled; sessions and tokens have ended"));
            Ok(())
        }
        User::Enable { name } => {
            let _: Value = client.post(&format!("/v1/users/{name}/enable"), &json!({})).await?;
            session.say(&format!("{name} may sign in again"));
            Ok(())
        }
        User::Reset { name, .. } => {
            let path = format!("/v1/users/{name}/reset");
            session.object(&client.post(&path, &json!({})).await?)
        }
        User::Password => {
            let current = ask_secret("current password: ")?;
            let new = ask_secret("new password: ")?;
            if new != ask_secret("once more: ")? {
                return Err(CliError::usage("the two are not the same; nothing was changed"));
            }
            let body = json!({"current_password": current, "new_password": new});
            let _: Value = client.post("/v1/password", &body).await?;
            session.say("the password is changed");
            Ok(())
        }
    }
}

/// `muster token …`.
#[derive(Subcommand)]
pub enum Token {
    /// List your tokens and sessions.
    List {
        /// Everybody's (administrators).
        #[arg(long)]
        all: bool,
    },
    /// Make a token for a program; prints it once.
    #[command(visible_alias = "add")]
    Create {
        /// What it is for.
        name: String,
        /// At most this role.
        #[arg(long)]
        role: Option<String>,
        /// Ends by itself after this long, for example 30days.
        #[arg(long)]
        expires: Option<Span>,
    },
    /// End a token or session.
    Revoke {
        /// Its number.
        no: i64,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Runs `muster token …`.
pub async fn token(session: &Session, command: Token) -> Result<(), CliError> {
    match command {
        Token::List { all } => {
            let query = [("all", all.to_string())];
            let columns =
                ["no", "user", "kind", "name", "prefix", "created_at", "expires_at", "revoked_at"];
            session.list("/v1/tokens", &query, &columns).await
        }
        Token::Create { name, role, expires } => {
            let mut body = json!({"name": name});
            if let Some(role) = role {
                body["role"] = role.into();
            }
            if let Some(expires) = expires {
                body["expires_in_seconds"] = expires.0.as_secs().into();
            }
            session.object(&session.client.post("/v1/tokens", &body).await?)
        }
        Token::Revoke { no, yes } => {
            confirm(&format!("End token or session {no}?"), yes)?;
            session.client.delete(&format!("/v1/tokens/{no}")).await?;
            session.say(&format!("token {no} has ended"));
            Ok(())
        }
    }
}

fn ask(prompt: &str) -> Result<String, CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage(
            "there is no terminal to ask on; give NAME and --password-stdin",
        ));
    }
    eprint!("{prompt}");
    std::io::stderr().flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim_end_matches('\n').to_owned())
}

/// A secret that stands on no command line: asked for on a terminal, else read.
pub fn read_secret(prompt: &str) -> Result<String, CliError> {
    if std::io::stdin().is_terminal() { ask_secret(prompt) } else { read_stdin() }
}

/// Asks without echo.
fn ask_secret(prompt: &str) -> Result<String, CliError> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    let Ok(shown) = tcgetattr(&stdin) else {
        return Err(CliError::usage("there is no terminal to ask on; use --password-stdin"));
    };
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    let failed = |_| CliError::new(Exit::Refused, "the terminal cannot hide what is typed");
    tcsetattr(&stdin, OptionalActions::Flush, &hidden).map_err(failed)?;
    let line = ask(prompt);
    tcsetattr(&stdin, OptionalActions::Flush, &shown).map_err(failed)?;
    eprintln!();
    line
}

fn read_stdin() -> Result<String, CliError> {
    let mut text = String::new();
    std::io::stdin().take(4096).read_to_string(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
