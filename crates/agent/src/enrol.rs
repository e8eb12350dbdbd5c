//! Enrolment: a key asks for its number.

use std::time::Duration;

use muster_codec_native::{
    Credential, ENROL_PATH, EnrolAnswer, EnrolRefusal, EnrolRequest, HostFacts, RefusalReason,
    enrol_message,
};
use muster_types::Timestamp;

use crate::Key;
use crate::transport::{Dialer, Error, ServerUrl, post_json};

/// Who enrols.
#[derive(Clone, Debug)]
pub struct Enroller {
    /// Identity of the machine.
    pub machine_id: String,
    /// What it says of itself.
    pub host: HostFacts,
}

/// Why there is no number.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No answer.
    #[error(transparent)]
    Link(#[from] Error),
    /// The server said no.
    #[error("{server} refuses to enrol this machine: {hint} ({reason:?})")]
    Refused {
        /// Which server.
        server: String,
        /// Why.
        reason: RefusalReason,
        /// What to do about it.
        hint: String,
        /// When to ask again, if at all.
        retry_after: Option<Duration>,
    },
}

impl Enroller {
    /// Asks one server. Asking again with the same key gives the same number.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn enrol(
        &self,
        dialer: &Dialer,
        server: &ServerUrl,
        key: &Key,
        credential: Credential,
        time: Timestamp,
    ) -> Result<EnrolAnswer, Refusal> {
        let public_key = key.public();
        let message = enrol_message(&public_key, credential.text(), &self.machine_id, time.0);
        let request = EnrolRequest {
            credential,
            public_key,
            proof: key.sign(&message),
            machine_id: self.machine_id.clone(),
            time,
            host: self.host.clone(),
        };
        let odd = |reason: String| Error::Answer { server: server.to_string(), reason };
        let body = serde_json::to_vec(&request).map_err(|error| odd(error.to_string()))?;
        let connection = dialer.connect(server).await?;
        let exchange = post_json(connection, ENROL_PATH, &body);
        let response = tokio::time::timeout(dialer.timeout, exchange).await.map_err(|_| {
            Error::Timeout { server: server.to_string(), seconds: dialer.timeout.as_secs() }
        })??;
        if response.status == 200 {
            let answer = serde_json::from_slice(&response.body);
            return Ok(answer.map_err(|error| odd(error.to_string()))?);
        }
        match serde_json::from_slice::<EnrolRefusal>(&response.body) {
            Ok(refusal) => Err(Refusal::Refused {
                server: server.to_string(),
                reason: refusal.reason,
                hint: refusal.hint,
                retry_after: (refusal.retry_after_ms > 0)
                    .then(|| Duration::from_millis(refusal.retry_after_ms)),
            }),
            Err(_) => Err(odd(format!("HTTP status {}", response.status)).into()),
        }
    }
}
