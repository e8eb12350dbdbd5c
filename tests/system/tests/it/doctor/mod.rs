//! The doctor: a healthy installation has no finding; each planted fault has its own, with exit 1.

mod stores;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use muster_testkit::{Cluster, ClusterOptions, InstanceOptions, Nats, Postgres, S3, Stores};
use serde_json::Value;

/// What was found; checks that each finding has its texts, and the exit code.
fn findings(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    let mut findings = Vec::new();
    for line in text.lines() {
        let finding: Value = serde_json::from_str(line).expect(line);
        for key in ["problem", "remedy"] {
            assert!(finding[key].as_str().is_some_and(|text| text.len() > 10), "{line}");
        }
        findings.push(finding);
    }
    let expected = if findings.is_empty() { 0 } else { 1 };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(expected), "{text}{stderr}");
    findings
}

/// Ids of what was found, in order, without repeats.
fn ids(output: &Output) -> Vec<String> {
    let mut ids = Vec::new();
    for finding in findings(output) {
        let id = finding["id"].as_str().unwrap().to_owned();
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

/// One instance and its doctor, asked through it or beside its stores.
struct Patient {
    cluster: Cluster,
    postgres: Postgres,
    /// Which instance is asked.
    at: usize,
    /// Of the instance and of its doctor.
    env: Vec<(String, String)>,
    dir: tempfile::TempDir,
}

impl Patient {
    fn start() -> anyhow::Result<Self> {
        Self::with(Vec::new(), "")
    }

    /// The same with more environment, of instance and doctor, and more lines of the file.
    fn with(env: Vec<(String, String)>, extra: &str) -> anyhow::Result<Self> {
        let (options, postgres, dir) = Self::ground()?;
        let instance = InstanceOptions { env: env.clone(), ..InstanceOptions::default() };
        let cluster = Cluster::start(&options.with(vec![instance]).extra(extra))?;
        Ok(Self { cluster, postgres, at: 0, env, dir })
    }

    /// The stores: a PostgreSQL of its own and a folder.
    fn ground() -> anyhow::Result<(ClusterOptions, Postgres, tempfile::TempDir)> {
        let postgres = Postgres::own()?;
        // Servers of tests do not sync.
        for setting in ["fsync", "full_page_writes"] {
            postgres.sql(&format!("ALTER SYSTEM SET {setting} = on"))?;
        }
        postgres.sql("SELECT pg_reload_conf()")?;
        let dir = tempfile::tempdir()?;
        let archive = format!("file://{}", dir.path().join("archive").display());
        let stores = Stores::default()
            .key("catalog", "url", &postgres.tcp_database()?)
            .key("archive", "url", &archive);
        Ok((ClusterOptions::new(stores), postgres, dir))
    }

    fn remote(&self) -> Vec<String> {
        ids(&self.told(None))
    }

    fn beside(&self, config: &Path) -> Vec<String> {
        ids(&self.told(Some(config)))
    }

    /// The command line, signed in to the instance and in its environment.
    fn command(&self) -> Command {
        let mut command = self.cluster.instance(self.at).command().unwrap();
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        command
    }

    /// What the doctor says, through the server or beside its stores.
    fn told(&self, config: Option<&Path>) -> Output {
        let mut command = self.command();
        command.args(["doctor", "-o", "ndjson"]);
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        command.output().unwrap()
    }

    /// A copy of the configuration with something else in it.
    fn config(&self, name: &str, change: impl FnOnce(String) -> String) -> PathBuf {
        let text = std::fs::read_to_string(self.cluster.config()).unwrap();
        let path = self.dir.path().join(name);
        std::fs::write(&path, change(text)).unwrap();
        path
    }

    /// In the catalog's database.
    fn sql(&self, text: &str) {
        let database =
            self.postgres.sql("SELECT datname FROM pg_database WHERE datname LIKE 'test_%'");
        self.postgres.sql_in(&database.unwrap(), text).unwrap();
    }

    fn database(&self, text: &str) {
        let database =
            self.postgres.sql("SELECT datname FROM pg_database WHERE datname LIKE 'test_%'");
        self.postgres.sql(&format!("ALTER DATABASE {} {text}", database.unwrap())).unwrap();
    }
}

#[test]
fn a_healthy_cluster_has_no_finding() {
    let (_, postgres, dir) = Patient::ground().unwrap();
    let (nats, s3) = (Nats::cluster().unwrap(), S3::start().unwrap());
    // How often the servers sync is seen by their monitoring addresses alone.
    let monitors: Vec<String> = (0..3).map(|node| nats.monitor_url(node)).collect();
    let stores = Stores::scaled(&postgres, &nats, &s3).unwrap();
    let monitors = ("MUSTER_NATS__MONITORS", serde_json::to_string(&monitors).unwrap());
    let options = ClusterOptions::new(stores).instances(3).env(monitors.0, &monitors.1);
    let cluster = Cluster::start(&options).unwrap();
    let env = [
        (monitors.0, &*monitors.1),
        ("AWS_ACCESS_KEY_ID", S3::ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", S3::SECRET_KEY),
    ];
    let env = env.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    let mut patient = Patient { cluster, postgres, at: 0, env, dir };
    let config = patient.config("same.yaml", |text| text);
    // Each of the three sees the same stores, once these have settled.
    for at in 0..3 {
        patient.at = at;
        patient.well(&config).unwrap();
    }
}

#[test]
fn faults_of_the_stores_and_of_what_instances_report() {
    let patient = Patient::start().unwrap();
    let config = patient.config("same.yaml", |text| text);
    assert_eq!(patient.remote(), Vec::<String>::new(), "healthy, through the server");
    assert_eq!(patient.beside(&config), Vec::<String>::new(), "healthy, beside the stores");

    // The database's clock is two minutes ahead for whoever connects from now on.
    patient.sql(
        "CREATE SCHEMA later;
         CREATE FUNCTION later.clock_timestamp() RETURNS timestamptz LANGUAGE sql
         AS 'SELECT pg_catalog.clock_timestamp() + interval ''120 s'''",
    );
    patient.database("SET search_path = later, pg_catalog, public");
    let found = patient.beside(&config);
    patient.database("RESET search_path");
    assert!(found.contains(&"clock-skew".to_owned()), "{found:?}");

    patient.database("SET synchronous_commit = off");
    assert_eq!(patient.beside(&config), ["postgres-durability"]);
    patient.database("RESET synchronous_commit");

    // Something stands where objects go.
    let probe = patient.dir.path().join("archive/probe");
    let _ = std::fs::remove_dir_all(&probe);
    std::fs::write(&probe, "in the way").unwrap();
    assert_eq!(patient.remote(), ["archive-write"]);
    assert_eq!(patient.beside(&config), ["archive-write"]);
    std::fs::remove_file(&probe).unwrap();

    let other = patient.dir.path().join("other.key");
    std::fs::write(&other, [7; 32]).unwrap();
    std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let key = |text: String| {
        let is_key = |line: &&str| line.starts_with("tls:");
        let kept: Vec<&str> = text.lines().filter(|line| !is_key(line)).collect();
        format!("{}\ntls: {{secret_key_file: '{}'}}\n", kept.join("\n"), other.display())
    };
    assert_eq!(patient.beside(&patient.config("key.yaml", key)), ["secret-key"]);

    let bad = |text: String| format!("{text}\nretention: {{grace: 1s}}\n");
    assert_eq!(patient.beside(&patient.config("bad.yaml", bad)), ["configuration"]);

    // Another instance of another version and another configuration that lives, for the catalog.
    patient.sql(
        "INSERT INTO instance SELECT (jsonb_populate_record(instance, jsonb_build_object(
             'id', gen_random_uuid(), 'name', 'older', 'version', '0.0.1',
             'started_at', 8e15::bigint, 'expires_at', 8e15::bigint))).* FROM instance",
    );
    assert_eq!(patient.remote(), ["version-spread"]);
    patient.sql("UPDATE instance SET version = (SELECT max(version) FROM instance)");
    patient.sql(
        "INSERT INTO instance_report SELECT instance.id, 1, reported_at,
             replace(instance_report.facts, 'grace\":\"30m', 'grace\":\"45m') FROM instance_report, instance
             WHERE name = 'older'",
    );
    assert_eq!(patient.remote(), ["config-drift"]);
    patient.sql(
        "UPDATE instance_report SET facts = replace(replace(facts, 'grace\":\"45m', 'grace\":\"30m'),
             '\"worker_lag_ms\":0', '\"worker_lag_ms\":90000')",
    );
    assert!(patient.remote().contains(&"shard-lag".to_owned()));
    patient.sql(
        "DELETE FROM instance_report
         WHERE instance IN (SELECT id FROM instance WHERE name = 'older')",
    );
    patient.sql("DELETE FROM instance WHERE name = 'older'; UPDATE instance SET roles = 'api'");
    assert!(patient.remote().contains(&"no-holder".to_owned()));
}

#[test]
fn an_asynchronous_standby_and_nats_that_does_not_sync() {
    let patient = Patient::start().unwrap();
    let _replica = patient.postgres.replica().unwrap();
    assert_eq!(patient.remote(), ["postgres-standby"]);
    drop(_replica);
    let Ok(nats) = Nats::start() else {
        eprintln!("not tested: there is no NATS server");
        return;
    };
    let url = nats.url();
    let with = |text: String| {
        format!(
            "{text}\nstream: {{url: '{url}'}}\nnats: {{replicas: 1, monitors: ['{}']}}\n",
            nats.monitor_url(0)
        )
    };
    let found = patient.beside(&patient.config("nats.yaml", with));
    assert!(found.contains(&"nats-replicas".to_owned()), "{found:?}");
}

/// Passes bytes on, and says nothing of whose they are.
fn silent_proxy(to: SocketAddr) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for from in listener.incoming().flatten() {
            let Ok(there) = TcpStream::connect(to) else { return };
            for (mut from, mut to) in [(&from, &there), (&there, &from)]
                .map(|(a, b)| (a.try_clone().unwrap(), b.try_clone().unwrap()))
            {
                std::thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    Ok(address)
}

fn alone(options: InstanceOptions, extra: &str) -> Cluster {
    let options = ClusterOptions::new(Stores::default()).with(vec![options]).extra(extra);
    Cluster::start(&options).unwrap()
}

fn look(cluster: &Cluster) -> Vec<String> {
    ids(&cluster.instance(0).cli(&["doctor", "-o", "ndjson"]).unwrap())
}

#[test]
fn faults_of_one_machine() {
    let few = ["sh", "-c", "ulimit -n 1024; exec \"$@\"", "sh"].map(str::to_owned);
    let options = InstanceOptions { prefix: few.into(), ..InstanceOptions::default() };
    assert_eq!(look(&alone(options, "")), ["open-files"]);

    let cluster = alone(InstanceOptions::default(), "stream: {reserve: 100 TiB}");
    assert_eq!(look(&cluster), ["disk-reserve"]);

    let cluster = alone(InstanceOptions::default(), "");
    assert_eq!(look(&cluster), Vec::<String>::new());
}

#[test]
fn a_proxy_that_does_not_say_for_whom_it_asks() {
    // The configuration names the proxy, which sets no header.
    let trusted = [("MUSTER_LISTENERS__TRUSTED_PROXIES".to_owned(), "[\"127.0.0.1\"]".to_owned())];
    let options = InstanceOptions { env: trusted.into(), ..InstanceOptions::default() };
    let cluster = alone(options, "");
    assert_eq!(look(&cluster), Vec::<String>::new(), "straight to the server");
    let operators = cluster.instance(0).addresses()[0];
    let proxy = silent_proxy(operators).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let access = cluster.access().unwrap();
    let ca = serde_json::to_string(&std::fs::read_to_string(&access.ca).unwrap()).unwrap();
    let context =
        format!("{{address: 'https://{proxy}', ca_pem: {ca}, token: '{}'}}", access.token);
    let text = format!("current: through\ncontexts:\n  through: {context}\n");
    std::fs::write(dir.path().join("contexts.yaml"), text).unwrap();
    let mut command = cluster.instance(0).command().unwrap();
    command.args(["--context", "through", "doctor", "-o", "ndjson"]);
    let output = command.env("MUSTER_CONFIG_DIR", dir.path()).output().unwrap();
    assert_eq!(ids(&output), ["proxy-header"]);
}

#[test]
fn a_certificate_that_has_ended_and_is_for_another_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["elsewhere.example".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let file = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let options = InstanceOptions::default();
    let cluster = alone(options, "");
    let config = dir.path().join("own.yaml");
    let (cert, key) = (file("c.pem", certificate.pem()), file("k.pem", key.serialize_pem()));
    let text = std::fs::read_to_string(cluster.config()).unwrap();
    let own = text.replace("tls: {", &format!("tls: {{certificate: '{cert}', key: '{key}', "));
    std::fs::write(&config, own).unwrap();
    let args = ["doctor", "-o", "ndjson", "--config"].map(str::to_owned);
    let mut command = cluster.instance(0).command().unwrap();
    command.args(args).arg(&config).env("MUSTER_DATA_DIR", cluster.instance(0).data_dir());
    let found = ids(&command.output().unwrap());
    assert_eq!(found, ["certificate-expiry"], "beside the stores, before it is used");
    assert_eq!(shown_by_a_server(&cert, &key), ["certificate-name", "certificate-expiry"]);
}

/// A server with this certificate, looked at from outside: nobody can sign in to it.
fn shown_by_a_server(certificate: &str, key: &str) -> Vec<String> {
    let env = [("MUSTER_TLS__CERTIFICATE", certificate), ("MUSTER_TLS__KEY", key)];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let server =
        muster_testkit::Server::up(muster_testkit::ServerOptions { env, args: Vec::new() });
    ids(&server.unwrap().cli(&["doctor", "-o", "ndjson"]).unwrap())
}
