//! A service as a protocol of the listener.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::connection::Connection;
use super::head::request_line;
use super::{Answer, Service};
use crate::Budget;
use crate::listener::{ListenerOptions, Opened, Protocol};

/// Serves one [`Service`] to the connections that begin with a request of its own.
///
/// What it gives back to the listener and what comes on connections that began otherwise reaches the
/// service through [`Server::router`], so put that behind the listener's fallback.
pub struct Server<S> {
    pub(super) service: S,
    pub(super) budget: Budget,
    pub(super) options: ListenerOptions,
}

impl<S: Service> Server<S> {
    /// For this service; bodies that may be large are taken from this budget. Of the options request and
    /// idle times and what stands in front count here.
    #[must_use]
    pub fn new(service: S, budget: Budget, options: ListenerOptions) -> Arc<Self> {
        Arc::new(Self { service, budget, options })
    }

    /// The service.
    pub fn service(&self) -> &S {
        &self.service
    }

    /// A refusal of the HTTP layer; the connection ends with it.
    pub(super) fn refuse(&self, status: u16, reason: &'static str) -> Answer {
        Answer { close: true, ..self.service.refuse(status, reason) }
    }
}

impl<S: Service> Protocol for Server<S> {
    fn claims(&self, first: &[u8]) -> Option<bool> {
        match request_line(first) {
            Ok(Some((method, path))) => Some(self.service.claims(method, path)),
            Ok(None) => None,
            Err(()) => Some(false),
        }
    }

    fn serve(self: Arc<Self>, opened: Opened) -> BoxFuture<'static, Option<Opened>> {
        // The one protocol whose messages are plain HTTP requests.
        opened.metrics.of(muster_types::AgentKind::Osquery).connections.inc();
        Box::pin(Connection::new(self, opened).run())
    }
}
