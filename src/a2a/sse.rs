//! Server-sent events, as far as A2A uses them. See <https://html.spec.whatwg.org/multipage/server-sent-events.html>.
//!
//! There is no reconnecting in here, on purpose: it would send the message again.

use std::borrow::Cow;

use serde_json::Value;

use super::error::Error;
use super::wire::Refusal;
use crate::platform::http::Incoming;
use crate::telemetry::trace::Span;

/// One event, files included, must not be larger than this.
pub(super) const EVENT_LIMIT: usize = 16 * 1024 * 1024;

/// What comes out of a stream.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    /// A comment (`: ping`) or an event without data: the connection is alive.
    Alive,
    /// An event's data.
    Data(Value),
    /// `event: error`.
    Error(Value),
}

impl Frame {
    /// What the agent says instead of a result.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Alive => None,
            Self::Data(value) => {
                value.get("error").filter(|error| !error.is_null()).map(Refusal::read)
            }
            Self::Error(value) => Some(Refusal::read(value.get("error").unwrap_or(value))),
        }
    }
}

/// Bytes in, frames out. Lines end with LF or CRLF, and may arrive in any pieces.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    line: Vec<u8>,
    data: Vec<u8>,
    event: Vec<u8>,
    has_data: bool,
}

impl Splitter {
    /// Reads on.
    ///
    /// # Errors
    /// When an event is too large or not JSON.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        frames: &mut impl Extend<Frame>,
    ) -> Result<(), Error> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            self.line.extend_from_slice(line);
            rest = after.split_first().map_or(&[][..], |(_, after)| after);
            let line = std::mem::take(&mut self.line);
            if let Some(frame) = self.end_of_line(line.strip_suffix(b"\r").unwrap_or(&line))? {
                frames.extend([frame]);
            }
        }
        self.line.extend_from_slice(rest);
        if self.line.len().saturating_add(self.data.len()) > EVENT_LIMIT {
            return Err(Error::TooLarge);
        }
        Ok(())
    }

    fn end_of_line(&mut self, line: &[u8]) -> Result<Option<Frame>, Error> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            let data = std::mem::take(&mut self.data);
            if !std::mem::take(&mut self.has_data) {
                return Ok(None);
            }
            let value = serde_json::from_slice(&data);
            return match (event.as_slice(), value) {
                (b"error", Ok(value)) => Ok(Some(Frame::Error(value))),
                (b"error", Err(_)) => Ok(Some(Frame::Error(Value::Null))),
                (_, Ok(value)) => Ok(Some(Frame::Data(value))),
                (_, Err(_)) => Err(Error::Malformed("an event is not JSON")),
            };
        }
        if line.starts_with(b":") {
            return Ok(Some(Frame::Alive));
        }
        if let Some(data) = line.strip_prefix(b"data:") {
            if self.has_data {
                self.data.push(b'\n');
            }
            self.has_data = true;
            self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
        } else if let Some(event) = line.strip_prefix(b"event:") {
            self.event = event.trim_ascii().iter().take(32).copied().collect();
        }
        Ok(None)
    }
}

/// An open stream.
#[derive(Debug)]
pub(super) struct Stream {
    incoming: Incoming,
    splitter: Splitter,
    frames: std::collections::VecDeque<Frame>,
    /// The request that it answers lasts as long as it does, and fails with it.
    span: Span,
}

impl Stream {
    pub(super) fn new(incoming: Incoming, span: Span) -> Self {
        let frames = std::collections::VecDeque::new();
        Self { incoming, splitter: Splitter::default(), frames, span }
    }

    /// The next frame; `None` when the agent closed the stream. May be dropped and called again without loss.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is no event stream of JSON.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, Error> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                if let Some(refusal) = frame.refusal() {
                    self.fail(refusal.code.to_string());
                }
                return Ok(Some(frame));
            }
            let chunk = self.incoming.chunk().await;
            let chunk = chunk.inspect_err(|error| self.fail(error.as_str()))?;
            let Some(chunk) = chunk else { return Ok(None) };
            let split = self.splitter.push(&chunk, &mut self.frames);
            split.inspect_err(|error| self.fail(error.as_str()))?;
        }
    }

    /// It is of no use; `kind` is one of a few words.
    pub(super) fn fail(&self, kind: impl Into<Cow<'static, str>>) {
        self.span.fail(kind);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn split(pieces: &[&[u8]]) -> Result<Vec<Frame>, Error> {
        let (mut splitter, mut frames) = (Splitter::default(), Vec::new());
        for piece in pieces {
            splitter.push(piece, &mut frames)?;
        }
        Ok(frames)
    }

    #[test]
    fn both_line_ends_and_any_pieces() {
        let text = b": ping\r\n\r\nevent: error\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\ndata:{\"b\":2}\n\nid: 3\n\n";
        let expected =
            vec![Frame::Alive, Frame::Error(json!({"a": 1})), Frame::Data(json!({"b": 2}))];
        assert_eq!(split(&[text]).unwrap(), expected);
        for at in 0..text.len() {
            assert_eq!(split(&[&text[..at], &text[at..]]).unwrap(), expected, "cut at {at}");
        }
    }

    #[test]
    fn an_event_without_its_end_is_none() {
        assert_eq!(split(&[b"data: {\"a\":1}\n"]).unwrap(), []);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        assert_eq!(split(&[b"data: hello\n\n"]), Err(Error::Malformed("an event is not JSON")));
    }

    #[test]
    fn a_line_without_end_is_not_gathered_for_ever() {
        let piece = vec![b'x'; EVENT_LIMIT / 4];
        let mut pieces = vec![&b"data: "[..]];
        pieces.extend([piece.as_slice(); 4]);
        assert_eq!(split(&pieces), Err(Error::TooLarge));
        // Nor many lines of one event.
        let line = [b"data: ".as_slice(), &piece, b"\n"].concat();
        assert_eq!(split(&[line.as_slice(); 5]), Err(Error::TooLarge));
    }
}
