//! The first words: challenge, proof, welcome.

use std::time::Duration;

use muster_codec_native::{
    AgentFrame, Bye, Hello, HostFacts, Rekey, ServerFrame, StreamSeq, Welcome, hello_message,
};
use muster_types::AgentNo;

use crate::Key;

use super::{Error, Heard, Link, hear, say};

/// The server must get through its part of the greeting in this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who this agent is.
pub(crate) struct Identity {
    pub(crate) key: Key,
    pub(crate) agent_no: AgentNo,
    pub(crate) process_nonce: [u8; 16],
    pub(crate) boot_id: String,
    pub(crate) machine_id: String,
    pub(crate) host: HostFacts,
}

/// The server's answer to the hello.
pub(crate) enum Greeting {
    Welcome(Welcome),
    Rekey(Rekey),
    Bye(Bye),
}

/// Proves who we are.
pub(crate) async fn greet(
    link: &mut Link,
    identity: &Identity,
    first_unacked: Option<StreamSeq>,
) -> Result<Greeting, Error> {
    let greeting = async {
        let nonce = loop {
            match hear(link).await? {
                Heard::Frame(ServerFrame::Challenge(challenge)) => break challenge.nonce,
                Heard::Frame(ServerFrame::Bye(bye)) => return Ok(Greeting::Bye(bye)),
                Heard::Frame(_) => return Err(Error::Protocol("no challenge came")),
                Heard::Life => {}
                Heard::Closed => return Err(Error::Protocol("closed before the challenge")),
            }
        };
        let message = hello_message(&nonce, identity.agent_no.0, &identity.process_nonce);
        let hello = Hello {
            agent_no: identity.agent_no,
            proof: identity.key.sign(&message),
            process_nonce: identity.process_nonce,
            boot_id: identity.boot_id.clone(),
            machine_id: identity.machine_id.clone(),
            host: identity.host.clone(),
            first_unacked,
        };
        say(link, AgentFrame::Hello(Box::new(hello)).encode()?).await?;
        loop {
            match hear(link).await? {
                Heard::Frame(ServerFrame::Welcome(welcome)) => {
                    return Ok(Greeting::Welcome(welcome));
                }
                Heard::Frame(ServerFrame::Rekey(rekey)) => return Ok(Greeting::Rekey(rekey)),
                Heard::Frame(ServerFrame::Bye(bye)) => return Ok(Greeting::Bye(bye)),
                Heard::Frame(_) => return Err(Error::Protocol("no welcome came")),
                Heard::Life => {}
                Heard::Closed => return Err(Error::Protocol("closed instead of a welcome")),
            }
        }
    };
    tokio::time::timeout(PATIENCE, greeting).await.map_err(|_| Error::Silent(PATIENCE.as_secs()))?
}
