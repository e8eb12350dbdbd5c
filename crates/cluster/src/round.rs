//! One round of an instance: renew, look, release, take. One transaction.
//!
//! Safety: a holder acts until `sent + 2/3 ttl` by its own clock, where `sent` is from before the
//! renewal; others take over only after the renewal's database time plus `ttl`, and first bury the
//! holder's row, so that a renewal in flight either is seen or fails. The epoch of a partition is
//! raised at every take-over and only ever by compare-and-set.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_catalog::{Catalog, Priority, Tx, args, statements};
use muster_types::{Epoch, Incarnation, InstanceId, Timestamp};

use crate::formats::{self, Written};
use crate::instance::{self, Instance};
use crate::service::Options;
use crate::wanted::wanted;
use crate::{Error, InstanceInfo, Job, Role};

statements! {
    small PARTITIONS = "SELECT job, n, holder, incarnation, epoch FROM partition_lease ORDER BY job, n";
    CREATE = "INSERT INTO partition_lease (job, n, holder, incarnation, epoch, taken_at)
        VALUES ($1, $2, NULL, 0, 0, 0)
        ON CONFLICT (job, n) DO NOTHING";
    TAKE = "UPDATE partition_lease SET holder = $4, incarnation = $5, epoch = epoch + 1, taken_at = $6
        WHERE job = $1 AND n = $2 AND epoch = $3";
    RELEASE = "UPDATE partition_lease SET holder = NULL
        WHERE job = $1 AND n = $2 AND epoch = $3 AND holder = $4 AND incarnation = $5";
    small RELEASE_ALL = "UPDATE partition_lease SET holder = NULL WHERE holder = $1 AND incarnation = $2";
}

/// A partition of a job.
pub(crate) type Partition = (Job, u16);

/// What a round found and did.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// What this instance holds and should hold.
    pub(crate) held: BTreeMap<Partition, Epoch>,
    /// What it holds, but another should: to be let go once nobody works on it.
    pub(crate) surplus: BTreeSet<Partition>,
    /// Others have something to do now.
    pub(crate) changed: bool,
    /// The lowest level among live instances.
    pub(crate) level: u32,
    /// No other instance lives.
    pub(crate) alone: bool,
    /// Other live instances that take agents and are not draining.
    pub(crate) frontends: usize,
    /// Which version of each form is written.
    pub(crate) written: Written,
    /// That is to be changed.
    pub(crate) formats_due: bool,
}

struct Lease {
    holder: Option<InstanceId>,
    incarnation: Incarnation,
    epoch: Epoch,
}

/// Who takes part in a round, and how.
pub(crate) struct Terms<'a> {
    pub(crate) info: &'a InstanceInfo,
    pub(crate) incarnation: Incarnation,
    pub(crate) options: &'a Options,
    /// How busy it is, as JSON.
    pub(crate) load: &'a str,
    /// Surplus partitions nobody here works on any more.
    pub(crate) let_go: &'a BTreeSet<Partition>,
}

pub(crate) async fn run(catalog: &Catalog, terms: &Terms<'_>) -> Result<Round, Error> {
    let me = (terms.info.id, terms.incarnation);
    let (ttl, let_go) = (terms.options.ttl, terms.let_go);
    let mut tx = catalog.begin(Priority::Lease).await?;
    let mut now = tx.now().await?;
    let renewed = instance::heartbeat(&mut tx, me, now, ttl, terms.load).await?;
    if !renewed {
        if !instance::revive(&mut tx, me, now, ttl).await? {
            return Err(Error::Superseded);
        }
        // Somebody may have started meanwhile that it cannot be beside, or the store may have been
        // changed to what this program does not work with.
        instance::check_again(&mut tx, terms.info).await?;
        catalog.verify().await?;
        // By itself: whoever came too late as well sees it live from here on. Otherwise each of two would
        // hold its own row and wait for that of the other, to bury it, for ever again.
        tx.commit().await?;
        tx = catalog.begin(Priority::Lease).await?;
        now = tx.now().await?;
        if !instance::heartbeat(&mut tx, me, now, ttl, terms.load).await? {
            let late = "too late again for a renewal".to_owned();
            return Err(muster_catalog::Error::Unavailable(late).into());
        }
    }
    // In this order: every holder that is seen has registered before, so it is in the list.
    // The other way round a newcomer's fresh lease looks like one of nobody.
    let leases = leases(&mut tx).await?;
    let instances = instance::list(&mut tx, now).await?;
    let mut round = Round::default();
    let live = || instances.iter().filter(|instance| instance.live);
    round.level = live().map(|instance| instance.info.level).min().unwrap_or(0);
    let others = || live().filter(|instance| instance.info.id != me.0);
    round.alone = others().next().is_none();
    let open = |other: &&Instance| other.info.roles.has(Role::Frontend) && !other.load.draining;
    round.frontends = others().filter(open).count();
    let when = (now, terms.options.formats_settle);
    (round.written, round.formats_due) =
        formats::look(&mut tx, &terms.options.formats, &instances, when).await?;
    let buried = bury(&mut tx, me.0, &leases, &instances, now).await?;
    for job in Job::ALL {
        let wanted = wanted(job, live());
        let gone_after = if job.is_share() { terms.options.share_ttl } else { ttl };
        for n in 0..job.partitions() {
            let Some(lease) = leases.get(&(job, n)) else { continue };
            // After a missed renewal everything is taken anew, at a new epoch; but shares of limits,
            // which nobody has taken meanwhile, are still in use.
            let mine = (renewed || job.is_share())
                && (lease.holder, lease.incarnation) == (Some(me.0), me.1);
            let wanted = wanted.get(&n) == Some(&me.0);
            match (mine, wanted) {
                (true, true) => {
                    round.held.insert((job, n), lease.epoch);
                }
                (true, false) if let_go.contains(&(job, n)) => {
                    let args = args![job.name(), i64::from(n), lease.epoch, me.0, me.1];
                    round.changed |= tx.execute(&RELEASE, args).await? == 1;
                }
                (true, false) => {
                    round.surplus.insert((job, n));
                }
                // Left over from before a missed renewal; nobody here has acted on it since.
                (false, false) if lease.holder == Some(me.0) => {
                    let args =
                        args![job.name(), i64::from(n), lease.epoch, me.0, lease.incarnation];
                    round.changed |= tx.execute(&RELEASE, args).await? == 1;
                }
                (false, true) if free(lease, me, &instances, (now, gone_after), &buried) => {
                    let args = args![job.name(), i64::from(n), lease.epoch, me.0, me.1, now];
                    if tx.execute(&TAKE, args).await? == 1 {
                        round.held.insert((job, n), Epoch(lease.epoch.0 + 1));
                        round.changed = true;
                    }
                }
                (false, _) => {}
            }
        }
    }
    tx.commit().await?;
    Ok(round)
}

/// Makes sure that holders that have expired stay so until this transaction ends; those that renewed in
/// time after all are left out. In the order of the list, as everybody does: rows are locked.
async fn bury(
    tx: &mut Tx,
    me: InstanceId,
    leases: &BTreeMap<Partition, Lease>,
    instances: &[Instance],
    now: Timestamp,
) -> Result<BTreeSet<InstanceId>, Error> {
    let holders: BTreeSet<InstanceId> = leases.values().filter_map(|lease| lease.holder).collect();
    let mut buried = BTreeSet::new();
    for instance in instances {
        let id = instance.info.id;
        let gone = !instance.live && id != me && holders.contains(&id);
        if gone && instance::bury(tx, id, now).await? {
            buried.insert(id);
        }
    }
    Ok(buried)
}

/// Whether nobody can be working under this lease any more.
fn free(
    lease: &Lease,
    me: (InstanceId, Incarnation),
    instances: &[Instance],
    (now, gone_after): (Timestamp, Duration),
    buried: &BTreeSet<InstanceId>,
) -> bool {
    let Some(holder) = lease.holder.filter(|holder| *holder != me.0) else { return true };
    let Some(instance) = instances.iter().find(|instance| instance.info.id == holder) else {
        return true;
    };
    if instance.live {
        // Started again since: the process that held it is gone.
        return instance.incarnation > lease.incarnation;
    }
    (instance.left || instance.heartbeat_at.plus(gone_after) <= now) && buried.contains(&holder)
}

async fn leases(tx: &mut Tx) -> Result<BTreeMap<Partition, Lease>, Error> {
    let mut leases = read(tx).await?;
    let missing = Job::ALL.into_iter().flat_map(|job| (0..job.partitions()).map(move |n| (job, n)));
    let missing: Vec<_> = missing.filter(|partition| !leases.contains_key(partition)).collect();
    if !missing.is_empty() {
        for (job, n) in missing {
            tx.execute(&CREATE, args![job.name(), i64::from(n)]).await?;
        }
        leases = read(tx).await?;
    }
    Ok(leases)
}

async fn read(tx: &mut Tx) -> Result<BTreeMap<Partition, Lease>, Error> {
    let mut leases = BTreeMap::new();
    for row in tx.fetch_all(&PARTITIONS, args![]).await? {
        // Jobs of a newer version are none of ours.
        let Some(job) = Job::from_name(&row.get::<String>("job")?) else { continue };
        let (holder, incarnation) = (row.get("holder")?, row.get("incarnation")?);
        leases
            .insert((job, row.get("n")?), Lease { holder, incarnation, epoch: row.get("epoch")? });
    }
    Ok(leases)
}

/// Lets everything go and marks the instance as stopped.
pub(crate) async fn leave(catalog: &Catalog, me: (InstanceId, Incarnation)) -> Result<(), Error> {
    let mut tx = catalog.begin(Priority::Lease).await?;
    instance::leave(&mut tx, me.0, me.1).await?;
    tx.execute(&RELEASE_ALL, args![me.0, me.1]).await?;
    Ok(tx.commit().await?)
}
