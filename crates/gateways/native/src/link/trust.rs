//! The CAs that the agent of a link was told of, and what follows when they change.

use std::sync::Arc;

use muster_codec_native::{Cas, ServerFrame};

use crate::NativeState;
use crate::state::ServerCas;

/// What one agent knows of the CAs.
pub(super) struct Trust {
    /// What it was told last.
    pub(super) told: Arc<ServerCas>,
    /// The CA whose certificate it saw when it connected.
    seen: u32,
}

/// What an agent has to hear.
pub(super) enum News {
    /// Nothing: it knows all there are.
    None,
    /// The CAs it is to trust now.
    Told(ServerFrame),
    /// It connected by a CA that is trusted no more, and would not believe what this link says of
    /// CAs: it has to connect again.
    Outdated,
}

impl Trust {
    pub(super) fn new(state: &NativeState) -> Self {
        let told = state.server_cas.load_full();
        Self { seen: told.signing, told }
    }

    /// What there is to say since the last time.
    pub(super) fn news(&mut self, state: &NativeState) -> News {
        let now = state.server_cas.load();
        if Arc::ptr_eq(&now, &self.told) {
            return News::None;
        }
        self.told = Arc::clone(&now);
        if self.told.trusted.contains(&self.seen) {
            News::Told(Cas { server_cas: self.told.pem.clone() }.into())
        } else {
            News::Outdated
        }
    }
}
