//! The CAs that the agent of a link was told of, and what follows when they change.

use std::sync::Arc;

use muster_codec_native::{CAP_CAS, Cas, Hello, ServerFrame};

use crate::NativeState;
use crate::state::ServerCas;

/// What one agent knows of the CAs.
pub(super) struct Trust {
    /// What it was told last.
    pub(super) told: Arc<ServerCas>,
    /// The CA whose certificate it saw when it connected.
    seen: u32,
    /// Whether it takes CAs while it is linked.
    hears: bool,
}

/// What an agent has to hear.
pub(super) enum News {
    /// Nothing: it knows all there are.
    None,
    /// The CAs it is to trust now.
    Told(ServerFrame),
    /// Nothing that it would take: it connected by a CA that is trusted no more, and does not believe what
    /// this link says of CAs; or it is of a version that hears of them only when it connects. It has to
    /// connect again.
    Outdated,
}

impl Trust {
    pub(super) fn new(hello: &Hello, state: &NativeState) -> Self {
        let told = state.server_cas.load_full();
        let hears = hello.host.capabilities.iter().any(|capability| capability == CAP_CAS);
        Self { seen: told.signing, hears, told }
    }

    /// What there is to say since the last time.
    pub(super) fn news(&mut self, state: &NativeState) -> News {
        let now = state.server_cas.load();
        if Arc::ptr_eq(&now, &self.told) {
            return News::None;
        }
        self.told = Arc::clone(&now);
        if self.hears && self.told.trusted.contains(&self.seen) {
            News::Told(Cas { server_cas: self.told.pem.clone() }.into())
        } else {
            News::Outdated
        }
    }
}
