//! Who should hold what: a pure function, so that instances agree without talking.

use std::cmp::Reverse;

use muster_types::InstanceId;

/// The wanted holder of each of the partitions, in their order. Rendezvous hashing with a cap: no instance gets
/// more than its even share, and few partitions move when an instance comes or goes.
pub(crate) fn shares(job: &str, partitions: &[u16], members: &[InstanceId]) -> Vec<InstanceId> {
    if members.is_empty() {
        return Vec::new();
    }
    let mut members: Vec<_> = members.iter().map(|id| (*id, 0_usize)).collect();
    members.sort_unstable();
    let even = partitions.len() / members.len();
    let mut one_more = partitions.len() % members.len();
    partitions
        .iter()
        .map(|n| {
            let full = |taken: usize| taken > even || (taken == even && one_more == 0);
            let open = members.iter_mut().filter(|(_, taken)| !full(*taken));
            let chosen = open
                .max_by_key(|(id, _)| (weight(job, *n, *id), Reverse(*id)))
                .expect("caps sum to the number of partitions");
            if chosen.1 == even {
                one_more -= 1;
            }
            chosen.1 += 1;
            chosen.0
        })
        .collect()
}

/// FNV-1a with a final mix; the same in every version, or instances would disagree.
fn weight(job: &str, partition: u16, id: InstanceId) -> u64 {
    let bytes = job.bytes().chain(partition.to_be_bytes()).chain(id.0.into_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use muster_types::InstanceId;
    use uuid::Uuid;

    use super::shares;

    fn members(n: u128) -> Vec<InstanceId> {
        (1..=n).map(|id| InstanceId(Uuid::from_u128(id * 0x1234_5678_9abc))).collect()
    }

    fn shares_of_all(members: &[InstanceId]) -> Vec<InstanceId> {
        shares("shards", &(0..64).collect::<Vec<_>>(), members)
    }

    #[test]
    fn shares_are_even_and_do_not_depend_on_the_order() {
        for n in 1..20 {
            let mut ids = members(n);
            let shared = shares_of_all(&ids);
            ids.reverse();
            assert_eq!(shared, shares_of_all(&ids));
            let mut counts = BTreeMap::new();
            shared.iter().for_each(|id| *counts.entry(id).or_insert(0) += 1);
            let (low, high) = (64 / n, 64_u128.div_ceil(n));
            assert!(counts.values().all(|count| (low..=high).contains(count)), "{n}: {counts:?}");
        }
        assert!(shares_of_all(&[]).is_empty());
    }

    #[test]
    fn a_newcomer_moves_little_more_than_its_share() {
        for n in 1..12 {
            let (before, after) = (shares_of_all(&members(n)), shares_of_all(&members(n + 1)));
            let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
            let ideal = 64 / usize::try_from(n + 1).unwrap();
            assert!(moved <= ideal * 3, "{n}: {moved} moved, {ideal} would be ideal");
        }
    }
}
