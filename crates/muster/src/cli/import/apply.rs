//! Compares what is wanted with what there is, and makes the difference.

use std::collections::HashMap;

use muster_schedules::import::{Kind, Wanted};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{Outcome, differing};
use crate::cli::session::Session;
use crate::client::{CliError, Exit};

type Done = Result<(Outcome, String), CliError>;

/// What there is, by name, and whether to change it.
pub struct Apply<'a> {
    session: &'a Session,
    dry_run: bool,
    labels: HashMap<String, Value>,
    secrets: HashMap<String, Value>,
    artifacts: HashMap<String, Value>,
    schedules: HashMap<String, Value>,
    configs: HashMap<String, Value>,
    policies: HashMap<String, Value>,
}

impl<'a> Apply<'a> {
    /// Reads what there is.
    pub async fn new(session: &'a Session, dry_run: bool) -> Result<Self, CliError> {
        let client = &session.client;
        Ok(Self {
            session,
            dry_run,
            labels: by("name", client.all("/v1/labels").await?),
            secrets: by("name", client.all("/v1/enrol-secrets").await?),
            artifacts: by("name", client.all("/v1/artifacts").await?),
            schedules: by("name", client.all("/v1/schedules").await?),
            configs: by("name", client.all("/v1/osquery/config").await?),
            policies: by("name", client.all("/v1/policies").await?),
        })
    }

    /// Sees to it that one thing is there as wanted.
    pub async fn one(&mut self, wanted: &Wanted) -> Done {
        match wanted.kind {
            Kind::Label => self.label(wanted).await,
            Kind::EnrolSecret => self.secret(wanted).await,
            Kind::Artifact => self.artifact(wanted).await,
            Kind::Schedule => self.schedule(wanted).await,
            Kind::LabelRule => self.rule(wanted).await,
            Kind::OsqueryConfig => self.config(wanted).await,
            Kind::Policy => self.policy(wanted).await,
        }
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value, CliError> {
        if self.dry_run {
            return Ok(Value::Null);
        }
        self.session.client.send(method, path, body).await
    }

    async fn label(&mut self, wanted: &Wanted) -> Done {
        let mut body = wanted.body.clone();
        let hosts = body.remove("hosts");
        let known = self.labels.contains_key(&wanted.name);
        if !known {
            self.send(Method::POST, "/v1/labels", &body.into()).await?;
        }
        let outcome = if known { Outcome::Unchanged } else { Outcome::Imported };
        match hosts.as_ref().and_then(Value::as_array) {
            Some(hosts) => self.members(&wanted.name, hosts, outcome).await,
            None => Ok((outcome, String::new())),
        }
    }

    /// Gives a label to hosts by name, as far as they are here.
    async fn members(&self, label: &str, hosts: &[Value], outcome: Outcome) -> Done {
        let (mut numbers, mut missing) = (Vec::new(), Vec::new());
        for host in hosts.iter().filter_map(Value::as_str) {
            match crate::cli::plain::endpoint_number(self.session, host).await {
                Ok(number) => numbers.push(number),
                Err(error) if error.exit == Exit::Unreachable => return Err(error),
                Err(_) => missing.push(host),
            }
        }
        let mut outcome = outcome;
        if !numbers.is_empty() {
            let path = format!("/v1/labels/{label}/endpoints");
            let changed = self.send(Method::POST, &path, &json!({"add": numbers})).await?;
            if outcome == Outcome::Unchanged && changed["added"].as_u64().unwrap_or(0) > 0 {
                outcome = Outcome::Updated;
            }
        }
        let reason = match missing.is_empty() {
            true => String::new(),
            false => format!("not here (yet), import again later: {}", missing.join(", ")),
        };
        Ok((outcome, reason))
    }

    /// A secret's text cannot be read back, so whether it is known is what the server says.
    async fn secret(&mut self, wanted: &Wanted) -> Done {
        if self.dry_run {
            let known = self.secrets.contains_key(&wanted.name);
            let outcome = if known { Outcome::Unchanged } else { Outcome::Imported };
            return Ok((outcome, "judged by its name only".to_owned()));
        }
        let body = Value::Object(wanted.body.clone());
        let made: Option<Value> = self.session.client.create("/v1/enrol-secrets", &body).await?;
        let outcome = if made.is_some() { Outcome::Imported } else { Outcome::Unchanged };
        Ok((outcome, String::new()))
    }

    async fn artifact(&mut self, wanted: &Wanted) -> Done {
        let body = Value::Object(wanted.body.clone());
        let mut outcome = Outcome::Imported;
        if self.artifacts.contains_key(&wanted.name) {
            let path = format!("/v1/artifacts/{}", wanted.name);
            let known: Value = self.session.client.get(&path).await?;
            if known["yaml"] == body["yaml"] {
                return Ok((Outcome::Unchanged, String::new()));
            }
            outcome = Outcome::Updated;
        }
        self.send(Method::POST, "/v1/artifacts", &body).await?;
        Ok((outcome, String::new()))
    }

    async fn schedule(&mut self, wanted: &Wanted) -> Done {
        let Some(known) = self.schedules.get(&wanted.name) else {
            let body = Value::Object(wanted.body.clone());
            let made = self.send(Method::POST, "/v1/schedules", &body).await?;
            self.schedules.insert(wanted.name.clone(), made);
            return Ok((Outcome::Imported, String::new()));
        };
        let mut body = wanted.body.clone();
        // These are what it was found by, and never change.
        body.retain(|key, _| key != "name" && key != "pack");
        let body = differing(&body, known);
        if body.is_empty() {
            return Ok((Outcome::Unchanged, String::new()));
        }
        let reason = keys(&body);
        let path = format!("/v1/schedules/{}", known["no"]);
        let changed = self.send(Method::PATCH, &path, &body.into()).await?;
        if !changed.is_null() {
            self.schedules.insert(wanted.name.clone(), changed);
        }
        Ok((Outcome::Updated, reason))
    }

    async fn rule(&mut self, wanted: &Wanted) -> Done {
        let schedule = wanted.body.get("schedule").and_then(Value::as_str).unwrap_or_default();
        let table = self.schedules.get(schedule).and_then(|known| known["table"].as_str());
        let Some(table) = table else {
            return match self.dry_run {
                true => Ok((Outcome::Imported, String::new())),
                false => {
                    let message = format!("the schedule {schedule:?} it follows is not there");
                    Err(CliError::new(Exit::Refused, message))
                }
            };
        };
        let query = format!("SELECT DISTINCT endpoint FROM {table}_current");
        let path = format!("/v1/labels/{}/rule", wanted.name);
        let known: Option<Value> = self.session.client.find(&path).await?;
        let outcome = match known {
            Some(known) if known["query"] == query.as_str() => {
                return Ok((Outcome::Unchanged, String::new()));
            }
            Some(_) => Outcome::Updated,
            None => Outcome::Imported,
        };
        self.send(Method::PUT, &path, &json!({"query": query})).await?;
        Ok((outcome, String::new()))
    }

    async fn config(&mut self, wanted: &Wanted) -> Done {
        let path = format!("/v1/osquery/config/{}", wanted.name);
        self.put(self.configs.get(&wanted.name), wanted, Method::PUT, &path).await
    }

    async fn policy(&mut self, wanted: &Wanted) -> Done {
        match self.policies.get(&wanted.name) {
            None => self.put(None, wanted, Method::POST, "/v1/policies").await,
            Some(known) => {
                let path = format!("/v1/policies/{}", known["no"]);
                self.put(Some(known), wanted, Method::PUT, &path).await
            }
        }
    }

    /// Writes a thing whole, unless it is there just so.
    async fn put(&self, known: Option<&Value>, wanted: &Wanted, how: Method, path: &str) -> Done {
        let (outcome, reason) = match known.map(|known| differing(&wanted.body, known)) {
            None => (Outcome::Imported, String::new()),
            Some(body) if body.is_empty() => return Ok((Outcome::Unchanged, String::new())),
            Some(body) => (Outcome::Updated, keys(&body)),
        };
        self.send(how, path, &wanted.body.clone().into()).await?;
        Ok((outcome, reason))
    }
}

fn by(key: &str, items: Vec<Value>) -> HashMap<String, Value> {
    let named = |item: Value| Some((item[key].as_str()?.to_owned(), item));
    items.into_iter().filter_map(named).collect()
}

fn keys(body: &Map<String, Value>) -> String {
    body.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}
