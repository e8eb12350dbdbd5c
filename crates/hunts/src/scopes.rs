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
    /// Endpoints in the hunt's scope that its asker may act on, without those that are recruited.
    pub(crate) fn waiting(
        &self,
        def: &HuntDef,
        recruited: &RoaringBitmap,
        snapshot: &Snapshot,
        live: &dyn Live,
    ) -> RoaringBitmap {
        // What is asked anew with every look is asked of those who may still be recruited.
        let volatile =
            |scope| PreparedScope::new(scope).is_ok_and(|prepared| prepared.is_volatile());
        if def.caller_scope.iter().chain([&def.scope]).any(volatile) {
            let asked = (def.org, &def.scope, def.caller_scope.as_slice());
            return resolve_beside(recruited, asked, snapshot, live).0;
        }
        &*self.endpoints(def, snapshot, live) - recruited
    }

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
    asked: (OrgId, &ScopeSpec, &[ScopeSpec]),
    snapshot: &Snapshot,
    live: &dyn Live,
) -> (RoaringBitmap, bool) {
    resolve_beside(&RoaringBitmap::new(), asked, snapshot, live)
}

/// The same without those of `known`.
fn resolve_beside(
    known: &RoaringBitmap,
    (org, scope, caller_scope): (OrgId, &ScopeSpec, &[ScopeSpec]),
    snapshot: &Snapshot,
    live: &dyn Live,
) -> (RoaringBitmap, bool) {
    let Ok(scope) = PreparedScope::new(scope) else { return Default::default() };
    let mut volatile = scope.is_volatile();
    let mut endpoints = scope.endpoints_beside(known, snapshot, org, live);
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
