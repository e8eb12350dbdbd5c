//! The caller of one request, as handlers get it.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use muster_catalog::Tx;
use muster_types::{Access, Role, Timestamp};
use parking_lot::Mutex;
use serde_json::{Map, Value};

use crate::audit::{self, Entry};
use crate::auth::principal::Principal;
use crate::authorise::{Decision, Needs, Operation, Target, authorise};
use crate::idempotency::Reserved;
use crate::problem::{Code, Problem, Result};
use crate::state::ApiState;

/// Who asks, for what, from where. Put into the request by the gate.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The authenticated principal.
    pub principal: Arc<Principal>,
    /// The operation that was called.
    pub operation: &'static Operation,
    /// The client's address.
    pub address: Arc<str>,
    /// Identifies the request.
    pub request_id: Arc<str>,
    notes: Arc<Mutex<Map<String, Value>>>,
    /// The key under which it was asked.
    reserved: Option<Arc<Reserved>>,
    state: ApiState,
}

impl Caller {
    pub(crate) fn new(
        principal: Arc<Principal>,
        operation: &'static Operation,
        address: Arc<str>,
        request_id: Arc<str>,
        state: ApiState,
    ) -> Self {
        let (notes, reserved) = (Arc::default(), None);
        Self { principal, operation, address, request_id, notes, reserved, state }
    }

    pub(crate) fn holding(self, reserved: Reserved) -> Self {
        Self { reserved: Some(Arc::new(reserved)), ..self }
    }

    /// Adds to what the audit log will say about this look.
    pub fn note(&self, key: &str, value: impl Into<Value>) {
        self.notes.lock().insert(key.to_owned(), value.into());
    }

    pub(crate) fn notes(&self) -> Map<String, Value> {
        self.notes.lock().clone()
    }

    /// Now, by the server's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.state.clock.now()
    }

    /// The agents this operation may see or touch for this caller.
    #[must_use]
    pub fn access(&self) -> Access {
        let role = match self.operation.needs {
            Needs::Some(role) | Needs::Everything(role) => role,
            Needs::Nobody | Needs::SignIn => Role::Viewer,
        };
        self.access_as(role)
    }

    /// The agents on which the caller holds a role.
    #[must_use]
    pub fn access_as(&self, role: Role) -> Access {
        let scopes = self.principal.scopes(role);
        let snapshot = self.state.directory.snapshot();
        snapshot.access(self.principal.org, &scopes, &self.state.presence)
    }

    /// The gate's decision about a target.
    #[must_use]
    pub fn decide(&self, target: Target<'_>) -> Decision {
        authorise(&self.principal, self.operation, target, &self.state.options.approvals)
    }

    /// Insists on a target being allowed without a second person.
    ///
    /// # Errors
    /// 403, recorded.
    pub fn insist(&self, target: Target<'_>, detail: &str) -> Result<()> {
        match self.decide(target) {
            Decision::Allowed => Ok(()),
            _ => Err(Problem::new(Code::Forbidden, detail)),
        }
    }

    /// Appends the record of a change, as the last step of its transaction, and marks the request's
    /// `Idempotency-Key`: so it is known with the change that it was made.
    ///
    /// # Errors
    /// When the catalog does not take it, or somebody else has the key by now; nothing is changed then.
    pub async fn record(&self, tx: &mut Tx, subject: String, details: Value) -> Result<()> {
        // A dry run is about nothing and may be made again.
        if let Some(reserved) = self.reserved.as_ref().filter(|_| !subject.is_empty()) {
            reserved.mark(tx, &subject).await?;
        }
        let entry = self.entry(subject, "ok", &details);
        audit::append(tx, self.state.instance, entry).await?;
        Ok(())
    }

    /// A record of this request.
    #[must_use]
    pub fn entry(&self, subject: String, outcome: &str, details: &Value) -> Entry {
        Entry {
            at: self.now(),
            org: self.principal.org,
            principal: self.principal.name.clone(),
            address: self.address.to_string(),
            operation: self.operation.id.to_owned(),
            subject,
            outcome: outcome.to_owned(),
            details: details.to_string(),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Problem::internal("a handler stands outside the gate"))
    }
}
