//! Server-sent events (WHATWG HTML, section 9.2), as far as our server uses them.

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use reqwest::Response;

use super::{CliError, Exit};

/// Longest event that is taken; ours are far below.
const MAX_EVENT_BYTES: usize = 16 << 20;

/// One event.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// Its data.
    pub data: String,
}

/// The events of one answer, as they come.
pub struct Events {
    body: BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    buffer: Vec<u8>,
}

impl Events {
    /// Reads the events of this answer.
    pub fn new(response: Response) -> Self {
        Self { body: response.bytes_stream().boxed(), buffer: Vec::new() }
    }

    /// The next event; `None` at the end of the answer.
    ///
    /// # Cancel safety
    /// Safe: what was read stays in the buffer.
    pub async fn next(&mut self) -> Result<Option<Event>, CliError> {
        loop {
            if let Some(event) = take_event(&mut self.buffer) {
                return Ok(Some(event));
            }
            if self.buffer.len() > MAX_EVENT_BYTES {
                return Err(CliError::new(Exit::Refused, "the server sent an event without end"));
            }
            match self.body.next().await {
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                Some(Err(error)) => {
                    let message = format!("the connection to the server broke: {error}");
                    return Err(CliError::new(Exit::Unreachable, message));
                }
                None => return Ok(None),
            }
        }
    }
}

/// Takes the first whole event with data out of the buffer; comments are dropped.
fn take_event(buffer: &mut Vec<u8>) -> Option<Event> {
    loop {
        let end = buffer.windows(2).position(|pair| pair == b"\n\n")?;
        let block: Vec<u8> = buffer.drain(..end + 2).collect();
        let text = String::from_utf8_lossy(&block);
        let mut event = Event { name: "message".into(), data: String::new() };
        for line in text.lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => event.name = value.to_owned(),
                "data" if event.data.is_empty() => event.data = value.to_owned(),
                "data" => {
                    event.data.push('\n');
                    event.data.push_str(value);
                }
                _ => {}
            }
        }
        if !event.data.is_empty() {
            return Some(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_cut_at_blank_lines_and_comments_dropped() {
        let mut buffer =
            b": hi\n\nevent: rows\ndata: {\"a\":1}\ndata: 2\n\nevent: end\nda".to_vec();
        let event = take_event(&mut buffer).unwrap();
        assert_eq!(event, Event { name: "rows".into(), data: "{\"a\":1}\n2".into() });
        assert_eq!(take_event(&mut buffer), None);
        buffer.extend_from_slice(b"ta: x\n\n");
        assert_eq!(take_event(&mut buffer).unwrap().name, "end");
    }
}
