//! What hunts' scopes mean now, remembered while the directory does not change.

use std::collections::HashMap;
use std::sync::Arc;

use muster_endpoints::{Live, PreparedScope, Snapshot};
use muster_types::{HuntNo, OrgId, ScopeSpec};
use parking_lot::Mutex;
use roaring::RoaringBitmap;

use crate::HuntDef;

/// Scopes remembered; beyond, all are forgotten.
const CACHED_MAX: usize = 1_024;

#[derive(Default)]
pub(crate) struct Scopes {
    known: Mutex<HashMap<HuntNo, (i64, Arc<RoaringBitmap>)>>,
}

impl Scopes {
    /// Endpoints in the hunt's scope that its asker may act on.
    pub(crate) fn endpoints(
        &self,
        def: &HuntDef,
        snapshot: &Snapshot,
        live: &dyn Live,
    ) -> Arc<RoaringBitmap> {
        let version = snapshot.version();
        if let Some((at, set)) = self.known.lock().get(&def.no)
            && *at == version
        {
            return Arc::clone(set);
        }
        let asked = (def.org, &def.scope, def.caller_scope.as_slice());
        let (set, volatile) = resolve(asked, snapshot, live);
        let set = Arc::new(set);
        if !volatile {
            let mut known = self.known.lock();
            if known.len() >= CACHED_MAX {
                known.clear();
            }
            known.insert(def.no, (version, Arc::clone(&set)));
        }
        set
    }
}

/// Endpoints in a scope that its asker may act on, and whether that may change without the directory. A
/// scope that cannot be read means nobody; it was checked when the hunt was made.
pub(crate) fn resolve(
    (org, scope, caller_scope): (OrgId, &ScopeSpec, &[ScopeSpec]),
    snapshot: &Snapshot,
    live: &dyn Live,
) -> (RoaringBitmap, bool) {
    let Ok(scope) = PreparedScope::new(scope) else { return Default::default() };
    let mut volatile = scope.is_volatile();
    let mut endpoints = scope.endpoints(snapshot, org, live);
    // To know that all of 100,000 are allowed takes a millisecond.
    if caller_scope.contains(&ScopeSpec::all()) {
        return (endpoints, volatile);
    }
    let mut allowed = RoaringBitmap::new();
    for spec in caller_scope {
        if let Ok(one) = PreparedScope::new(spec) {
            volatile |= one.is_volatile();
            allowed |= one.endpoints(snapshot, org, live);
        }
    }
    endpoints &= allowed;
    (endpoints, volatile)
}
