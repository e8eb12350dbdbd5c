//! Where agents find all instances, for those that balance by themselves.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use muster_catalog::Catalog;
use muster_cluster::{Instance, Role};
use tokio_util::sync::CancellationToken;

/// How often it is looked up: once for all who ask.
const EVERY: Duration = Duration::from_secs(10);

/// `https://` addresses of the agents' listeners of all live instances. Empty unless `instance.advertise`
/// is set: addresses that were only detected may be of a network that agents are not in, and behind a
/// balancer nobody should go round it.
#[derive(Clone, Debug, Default)]
pub struct Advertised(Arc<ArcSwap<Vec<String>>>);

impl Advertised {
    /// As of now.
    pub fn get(&self) -> Vec<String> {
        self.0.load().to_vec()
    }

    /// Keeps it up to date until `shutdown`. What was known stays while the catalog is away.
    pub async fn follow(self, catalog: Catalog, shutdown: CancellationToken) {
        let look = async {
            loop {
                match muster_cluster::instances(&catalog).await {
                    Ok(instances) => self.0.store(Arc::new(urls(&instances))),
                    Err(error) => tracing::debug!(%error, "instances cannot be read"),
                }
                tokio::time::sleep(EVERY).await;
            }
        };
        let _: Option<std::convert::Infallible> = shutdown.run_until_cancelled(look).await;
    }
}

fn urls(instances: &[Instance]) -> Vec<String> {
    let serving = |instance: &&Instance| instance.live && instance.info.roles.has(Role::Frontend);
    let addresses =
        instances.iter().filter(serving).flat_map(|one| &one.info.facts.listeners.agents);
    let mut urls: Vec<String> = addresses.map(|address| format!("https://{address}")).collect();
    urls.sort();
    urls.dedup();
    urls
}
