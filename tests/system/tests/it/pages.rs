//! Two builds of the program side by side: each serves the files of the other's page.

use anyhow::Context;
use muster_testkit::{
    Cluster, ClusterOptions, Instance, InstanceOptions, Nats, Postgres, Stores, other_binary,
    wait_for,
};
use reqwest::{Certificate, Client, StatusCode};
use tokio::runtime::Runtime;

use crate::support::SOON;

/// Asks for pages and files, as a browser does.
struct Browser {
    runtime: Runtime,
    client: Client,
}

impl Browser {
    /// One that believes the cluster's CA.
    fn of(cluster: &Cluster) -> anyhow::Result<Self> {
        let ca = Certificate::from_pem(&std::fs::read(&cluster.access()?.ca)?)?;
        // Instances end meanwhile, and their connections with them.
        let client = Client::builder().tls_certs_only([ca]).no_proxy().pool_max_idle_per_host(0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, client: client.timeout(SOON).build()? })
    }

    /// The files that the page of an instance names, as `/assets/app.….js`.
    fn named(&self, instance: &Instance) -> anyhow::Result<Vec<String>> {
        let page = self.runtime.block_on(async {
            let answer = self.client.get(instance.operators_url()).send().await?;
            answer.error_for_status()?.text().await
        })?;
        let files = page.split('"').filter(|part| part.starts_with("/assets/"));
        let mut files: Vec<String> = files.map(str::to_owned).collect();
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// A file, once the instance has it: what another one publishes when it starts is there in a moment.
    fn file(&self, instance: &Instance, path: &str) -> anyhow::Result<Vec<u8>> {
        let url = format!("{}{path}", instance.operators_url());
        wait_for(&format!("{url} to be served"), SOON, || self.runtime.block_on(self.get(&url)))
    }

    async fn get(&self, url: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let answer = self.client.get(url).send().await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answer = answer.error_for_status()?;
        let caching = answer.headers()["cache-control"].to_str()?;
        anyhow::ensure!(caching.contains("immutable"), "{url}: {caching}");
        Ok(Some(answer.bytes().await?.to_vec()))
    }
}

fn script(files: &[String]) -> anyhow::Result<&String> {
    files.iter().find(|file| file.ends_with(".js")).context("the page names a script")
}

#[test]
fn a_page_of_one_build_gets_its_files_from_the_other() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (postgres, nats) = (Postgres::start()?, Nats::start()?);
    let archive = format!("file://{}", dir.path().join("archive").display());
    let stores = Stores::default()
        .key("catalog", "url", &postgres.database()?)
        .key("archive", "url", &archive)
        .key("stream", "url", &nats.url())
        .key("nats", "replicas", "1");
    let other = InstanceOptions { binary: Some(other_binary()?), ..InstanceOptions::default() };
    let options = ClusterOptions::new(stores).with(vec![InstanceOptions::default(), other]);
    let cluster = Cluster::start(&options)?;
    let browser = Browser::of(&cluster)?;
    let (one, two) = (cluster.instance(0), cluster.instance(1));
    let (ones, twos) = (browser.named(one)?, browser.named(two)?);
    let (script_one, script_two) = (script(&ones)?, script(&twos)?);
    assert_ne!(script_one, script_two, "the two builds have the same script");
    let shared = ones.iter().filter(|file| twos.contains(file)).count();
    assert_eq!(shared, ones.len() - 1, "what is the same has the same name: {ones:?} {twos:?}");

    // A balancer sends the page's requests anywhere.
    for path in ones.iter().chain(&twos) {
        assert_eq!(browser.file(one, path)?, browser.file(two, path)?, "{path}");
    }
    let text = String::from_utf8(browser.file(one, script_two)?)?;
    assert!(text.ends_with("// of another build\n"), "the other build's own script");
    assert!(!String::from_utf8(browser.file(two, script_one)?)?.contains("of another build"));

    // Also one that never saw it, when the build that has it is gone: a page may still be open.
    two.stop()?;
    one.stop()?;
    one.start()?;
    assert_eq!(browser.file(one, script_two)?, text.as_bytes());
    assert_eq!(browser.named(one)?, ones);
    Ok(())
}
