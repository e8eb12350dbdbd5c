//! The entry of the fuzz target.

use bytes::Bytes;

use crate::{AgentFrame, EnrolRequest, ServerFrame};

/// Decodes arbitrary bytes as everything this crate reads. What decodes and encodes must read back
/// as the same.
///
/// # Panics
/// When it does not: that is the finding.
pub fn fuzz_decode(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    // Encoding may refuse what decoding took only for its size: JSON may grow when it is rewritten.
    if let Ok(Some(frame)) = AgentFrame::decode(bytes.clone())
        && let Ok(again) = frame.encode()
    {
        assert_eq!(AgentFrame::decode(again), Ok(Some(frame)));
    }
    if let Ok(Some(frame)) = ServerFrame::decode(bytes)
        && let Ok(again) = frame.encode()
    {
        // Not compared: a parameter's floating point number may move by its last digit.
        assert!(matches!(ServerFrame::decode(again), Ok(Some(_))));
    }
    let _ = EnrolRequest::from_json(data);
}
