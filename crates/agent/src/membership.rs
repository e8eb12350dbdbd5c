//! Belonging to a server: the number, the key, the CAs, and how each of them changes.

use std::sync::Arc;
use std::time::Duration;

use muster_codec_native::{Credential, Rekey};
use muster_types::AgentNo;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::sync::{mpsc, oneshot};

use crate::buffer::Buffer;
use crate::run::{Agent, Error, Next, chain};
use crate::tasks::{Done, Order};
use crate::transport::{CaSet, ServerUrl};
use crate::{Enroller, Key, Refusal};

impl Agent {
    /// Asks each server once for a number.
    pub(crate) async fn enrol_once(&mut self) -> Result<AgentNo, Error> {
        if self.enrolled {
            return Ok(self.identity.agent_no);
        }
        let secret = self.options.secret.as_ref().ok_or(Error::NoSecret)?;
        let secret = secret.read().map_err(Error::Secret)?;
        let mut refusal = None;
        for server in self.servers.all() {
            let credential = Credential::Secret(secret.clone());
            match self.ask_number(&server, credential, &self.identity.key).await {
                Ok(agent_no) => {
                    self.adopt(agent_no)?;
                    tracing::info!(%server, agent = %agent_no, "enrolled");
                    return Ok(agent_no);
                }
                Err(error) => {
                    tracing::warn!("{}", chain(&error));
                    refusal = Some(error);
                }
            }
        }
        Err(refusal.map_or(Error::NoServer, Error::Enrol))
    }

    async fn ask_number(
        &self,
        server: &ServerUrl,
        credential: Credential,
        key: &Key,
    ) -> Result<AgentNo, Refusal> {
        let enroller = Enroller {
            machine_id: self.identity.machine_id.clone(),
            host: self.identity.host.clone(),
        };
        let now = self.options.clock.now();
        let answer = enroller.enrol(&self.dialer, server, key, credential, now).await?;
        Ok(answer.agent_no)
    }

    /// The CAs come with the welcome, where they are judged by the certificates of that connection.
    fn adopt(&mut self, agent_no: AgentNo) -> Result<(), Error> {
        let stored = self.state.store_agent_no(agent_no, &self.identity.key);
        stored.map_err(|e| self.failed(e))?;
        self.identity.agent_no = agent_no;
        self.enrolled = true;
        Ok(())
    }

    pub(crate) fn after_refusal(&self, refusal: &Refusal) -> Next {
        match refusal {
            Refusal::Refused { retry_after: Some(wait), .. } => Next::After(*wait),
            // An operator has to do something first; looking again now and then finds out.
            Refusal::Refused { .. } => Next::After(self.options.backoff.last),
            Refusal::Link(_) => Next::Failed,
        }
    }

    /// This machine is a copy: a key and a number of its own, and nothing of the original's.
    pub(crate) async fn rekey(
        &mut self,
        rekey: Rekey,
        server: &ServerUrl,
        buffer: &Buffer,
        done: &Done,
        orders: &mpsc::Sender<Order>,
    ) -> Result<Next, Error> {
        tracing::warn!(%server, "another machine holds the same key; enrolling as one of its own");
        let key = Key::generate().map_err(|e| self.failed(e))?;
        let ticket = Credential::Ticket(rekey.ticket);
        let agent_no = match self.ask_number(server, ticket, &key).await {
            Ok(answer) => answer,
            Err(refusal) => {
                tracing::warn!("{}", chain(&refusal));
                return Ok(self.after_refusal(&refusal));
            }
        };
        let (reply, dropped) = oneshot::channel();
        if orders.send(Order::Drop(reply)).await.is_err() || dropped.await.is_err() {
            return Ok(Next::Stop);
        }
        buffer.reset()?;
        done.clear().map_err(|e| self.failed(e))?;
        self.state.store_key(&key).map_err(|e| self.failed(e))?;
        self.identity.key = key;
        self.adopt(agent_no)?;
        Ok(Next::Again)
    }

    /// Takes the CAs the server names, unless they would lock this very server out.
    pub(crate) fn learn_cas(
        &mut self,
        pem: &str,
        server: &ServerUrl,
        certificates: &[CertificateDer<'static>],
    ) {
        if pem.is_empty() || pem == self.cas {
            return;
        }
        let seconds = u64::try_from(self.options.clock.now().seconds()).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let name = ServerName::try_from(server.host().to_owned());
        let believed = CaSet::from_pem(pem)
            .is_ok_and(|set| name.is_ok_and(|name| set.believes(certificates, &name, now)));
        if !believed {
            tracing::warn!(%server, "new CAs refused: they do not vouch for the server that sent them");
            return;
        }
        // Told again with the next link.
        if let Err(error) = self.trust(pem) {
            tracing::warn!(%server, "new CAs cannot be kept: {}", chain(&error));
        }
    }

    fn trust(&mut self, pem: &str) -> Result<(), Error> {
        if pem.is_empty() || pem == self.cas {
            return Ok(());
        }
        let set = CaSet::from_pem(pem)?;
        self.state.store_cas(pem, &self.options.ca_pem).map_err(|e| self.failed(e))?;
        tracing::info!(cas = %set.describe(), "trusting other CAs from now on");
        self.dialer.tls = Arc::new(set.client_config());
        pem.clone_into(&mut self.cas);
        Ok(())
    }
}
