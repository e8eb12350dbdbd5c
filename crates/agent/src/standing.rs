//! What a server makes of the number that this machine has already.
//!
//! A fingerprint that is not among the trusted CAs may be of the same installation, whose CA has changed
//! while this machine was off, or of another one, in which the number is somebody else's. Only the server
//! can tell, by the key.

use std::time::Duration;

use muster_types::AgentNo;

use crate::AgentOptions;
use crate::buffer::Buffer;
use crate::link::Greeting;
use crate::run::{Agent, Error, remedy};

/// Time to say goodbye.
const PARTING: Duration = Duration::from_secs(1);

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// This machine has no number.
    NotEnrolled,
    /// It is this agent of the server's installation.
    Known(AgentNo),
    /// It has a number, which the server does not let in.
    Refused {
        /// The number.
        agent_no: AgentNo,
        /// The server's words.
        reason: String,
    },
}

/// Asks the first server; a link comes about and is closed again.
///
/// # Errors
/// [`Error`]; also when there is no answer.
pub async fn standing(options: &AgentOptions) -> Result<Standing, Error> {
    let agent = Agent::open(options.clone())?;
    let agent_no = agent.identity.agent_no;
    if !agent.enrolled {
        return Ok(Standing::NotEnrolled);
    }
    let server = options.servers.first().ok_or(Error::NoServer)?;
    let buffer = Buffer::open(&agent.state.path("buffer"), agent.options.buffer)?;
    let connection = agent.dialer.connect(server).await.map_err(crate::Refusal::from)?;
    let silent = || Error::NotGreeted { server: server.to_string() };
    let (mut link, greeting) = agent.open_link(connection, &buffer).await.map_err(|_| silent())?;
    // Its answer is known; how the link ends does not matter.
    let _ = tokio::time::timeout(PARTING, link.close(None)).await;
    Ok(match greeting {
        Greeting::Welcome(_) | Greeting::Rekey(_) => Standing::Known(agent_no),
        Greeting::Bye(bye) if is_unknown(&bye.reason) => {
            Standing::Refused { agent_no, reason: bye.reason }
        }
        // For now, as when its catalog is away: that says nothing about whose the number is.
        Greeting::Bye(bye) => {
            return Err(Error::SentAway { server: server.to_string(), reason: bye.reason });
        }
    })
}

/// Whether a server's words say that it does not have the agent. Refusals have no code.
fn is_unknown(reason: &str) -> bool {
    reason.contains("unknown agent") || !remedy(reason).is_empty()
}
