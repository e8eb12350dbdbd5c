//! What an agent signs with its ed25519 key. Signing and verifying are done by the callers, so that
//! this crate needs no cryptography.

/// The bytes signed in a [`crate::Hello`]: they bind the server's challenge, the agent's number and
/// the process that holds the key.
#[must_use]
pub fn hello_message(nonce: &[u8; 32], agent_no: u32, process_nonce: &[u8; 16]) -> Vec<u8> {
    let mut message = b"muster native agent hello 1\0".to_vec();
    message.extend_from_slice(nonce);
    message.extend_from_slice(&agent_no.to_le_bytes());
    message.extend_from_slice(process_nonce);
    message
}

/// The bytes signed in a [`crate::EnrolRequest`]: whoever enrols a key holds it, for this machine,
/// with this secret or ticket, at about this time.
#[must_use]
pub fn enrol_message(
    public_key: &[u8; 32],
    credential: &str,
    machine_id: &str,
    time_micros: i64,
) -> Vec<u8> {
    let mut message = b"muster native agent enrol 1\0".to_vec();
    message.extend_from_slice(public_key);
    message.extend_from_slice(&time_micros.to_le_bytes());
    for text in [credential, machine_id] {
        message.extend_from_slice(&(text.len() as u64).to_le_bytes());
        message.extend_from_slice(text.as_bytes());
    }
    message
}
