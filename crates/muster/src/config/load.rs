//! Reading and checking.

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Yaml};

use super::front;
use super::model::{Config, RoleName, removed_keys};

/// Values from the command line; what is `None` leaves the file's.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Overrides {
    /// `--data`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// `--name`, added to the certificate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// `--roles`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<RoleName>,
}

/// What is wrong with the configuration, one line per fault.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

/// Reads file, environment and flags, and checks the whole.
///
/// # Errors
/// [`ConfigError`] with every fault, its key, where it came from, and a suggestion.
pub fn load(
    defaults: &Config,
    file: Option<&Path>,
    overrides: &Overrides,
) -> Result<Config, ConfigError> {
    let mut figment = Figment::from(Serialized::defaults(defaults));
    if let Some(file) = file {
        if !file.is_file() {
            return Err(ConfigError(vec![format!(
                "there is no configuration file {}; `muster config sample` prints one to start from",
                file.display()
            )]));
        }
        figment = figment.merge(Yaml::file_exact(file));
    }
    // Variables that are not configuration keys, such as MUSTER_CONTEXT, have one part only.
    let nested = Env::prefixed("MUSTER_").split("__").filter(|key| {
        let first = key.as_str().split('.').next().unwrap_or_default();
        TOP_LEVEL.iter().any(|name| name.eq_ignore_ascii_case(first))
    });
    figment = figment.merge(nested).merge(Serialized::defaults(overrides));
    let config: Config = figment
        .extract()
        .map_err(|errors| ConfigError(errors.into_iter().map(|e| explain(&e)).collect()))?;
    check(&config)?;
    Ok(config)
}

const TOP_LEVEL: &[&str] = &[
    "data_dir",
    "roles",
    "names",
    "instance",
    "pins",
    "drain",
    "catalog",
    "stream",
    "archive",
    "bus",
    "nats",
    "listeners",
    "tls",
    "api",
    "agents",
    "sql",
    "retention",
    "approvals",
    "log",
    "telemetry",
];

fn explain(error: &figment::Error) -> String {
    let place = error.path.join(".");
    let origin = error.metadata.as_ref().map_or_else(String::new, |m| match &m.source {
        Some(figment::Source::File(path)) => format!(" in {}", path.display()),
        _ => format!(" in {}", m.name),
    });
    if let figment::error::Kind::UnknownField(field, expected) = &error.kind {
        let key = if place.is_empty() { field.clone() } else { place };
        if let Some(advice) = removed_keys().get(key.as_str()) {
            return format!("{key}{origin}: was removed; {advice}");
        }
        let near = expected
            .iter()
            .map(|name| (strsim::damerau_levenshtein(name, field), *name))
            .min()
            .filter(|(distance, _)| *distance <= 3);
        return match near {
            Some((_, name)) => format!("{key}{origin}: unknown key; did you mean {name:?}?"),
            None => format!("{key}{origin}: unknown key; known here are {}", expected.join(", ")),
        };
    }
    let key = if place.is_empty() { "configuration".to_owned() } else { place };
    format!("{key}{origin}: {}", error.kind)
}

fn check(config: &Config) -> Result<(), ConfigError> {
    let mut faults = Vec::new();
    if config.roles.is_empty() {
        faults.push("roles: is empty; write [all]".to_owned());
    }
    if config.tls.certificate.is_some() != config.tls.key.is_some() {
        faults.push("tls: certificate and key go together; set both or none".to_owned());
    }
    let s3 = &config.archive.s3;
    if s3.access_key_id.is_some() != s3.secret_access_key_file.is_some() {
        faults.push(
            "archive.s3: access_key_id and secret_access_key_file go together; set both or none"
                .to_owned(),
        );
    }
    if s3.endpoint.as_ref().is_some_and(|url| url.starts_with("http://")) && !s3.allow_http {
        faults
            .push("archive.s3.endpoint: is plain HTTP; set allow_http if that is meant".to_owned());
    }
    faults.extend(front::faults(config));
    if let Err(bad) = muster_cluster::Pins::parse(&config.pins) {
        faults.push(format!("pins: {bad}"));
    }
    let drain = &config.drain;
    if drain.time.0 <= drain.delay.0 + drain.spread.0 {
        faults.push(format!(
            "drain.time ({}) must be longer than drain.delay ({}) and drain.spread ({}) together",
            drain.time, drain.delay, drain.spread
        ));
    }
    if let Some(otlp) = &config.telemetry.otlp
        && !(otlp.starts_with("http://") || otlp.starts_with("https://"))
    {
        faults.push(format!("telemetry.otlp: {otlp:?} is no collector; write http://host:4318"));
    }
    if !(0.0..=1.0).contains(&config.telemetry.sample) {
        faults.push("telemetry.sample: is a part of all traces, from 0 to 1".to_owned());
    }
    if config.retention.grace <= config.sql.time {
        faults.push(format!(
            "retention.grace ({}) must be longer than sql.time ({}), or objects vanish under a running query",
            config.retention.grace, config.sql.time
        ));
    }
    for (key, url, schemes) in [
        ("catalog.url", &config.catalog.url, &["sqlite", "postgres", "postgresql"][..]),
        ("stream.url", &config.stream.url, &["log", "nats", "tls", "relay"]),
        ("archive.url", &config.archive.url, &["file", "s3", "gs", "az"]),
        ("bus.url", &config.bus.url, &["local", "nats", "tls", "relay"]),
    ] {
        let Some(url) = url else { continue };
        let scheme = url.split(':').next().unwrap_or_default();
        if !schemes.contains(&scheme) {
            faults.push(format!(
                "{key}: unknown scheme {scheme:?}; known are {}",
                schemes.join(", ")
            ));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(ConfigError(faults)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(yaml: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("muster.yaml");
        std::fs::write(&file, yaml).unwrap();
        match load(&Config::default(), Some(&file), &Overrides::default()) {
            Ok(_) => "fine".to_owned(),
            Err(error) => error.to_string().replace(&file.display().to_string(), "FILE"),
        }
    }

    #[test]
    fn the_environment_knows_every_section() {
        let value = serde_json::to_value(Config::default()).unwrap();
        let missing = value.as_object().unwrap().keys();
        let missing: Vec<_> = missing.filter(|key| !TOP_LEVEL.contains(&key.as_str())).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn faults_name_their_key_and_a_remedy() {
        insta::assert_snapshot!(
            [
                faults("data_dir: /x\nlog: {level: debug}"),
                faults("data_dirr: /x"),
                faults("log: {levle: debug}"),
                faults("stream: {quota: 5 GB}"),
                faults("sql: {time: 2h}"),
                faults("catalog: {url: 'mysql://x'}"),
                faults("listeners: {agents: ':8443'}"),
                faults("tls: {key: /k.pem}"),
            ]
            .join("\n")
        );
    }

    #[test]
    fn flags_win_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("muster.yaml");
        std::fs::write(&file, "data_dir: /from/file\nroles: [api]").unwrap();
        let flags = Overrides { data_dir: Some("/from/flag".into()), ..Overrides::default() };
        let config = load(&Config::default(), Some(&file), &flags).unwrap();
        assert_eq!(config.data_dir, PathBuf::from("/from/flag"));
        assert_eq!(config.roles, [RoleName::Api]);
    }
}
