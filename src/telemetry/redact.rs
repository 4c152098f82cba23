//! The second net under the types: a writer that never lets a known secret through, whoever wrote the line.

use std::io::{self, Write};
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use tracing_subscriber::fmt::MakeWriter;

/// What stands where a secret stood.
const MARK: &str = "[redacted]";
/// Shorter secrets would black out ordinary words.
const SHORTEST: usize = 8;

/// A writer of log lines that takes known secrets out of each.
#[derive(Clone)]
pub struct Redacting<M> {
    inner: M,
    secrets: Arc<[SecretString]>,
}

impl<M> Redacting<M> {
    /// Takes `secrets` out of what goes to `inner`.
    pub fn new(inner: M, secrets: &[SecretString]) -> Self {
        let long = |secret: &&SecretString| secret.expose_secret().len() >= SHORTEST;
        Self { inner, secrets: secrets.iter().filter(long).cloned().collect() }
    }
}

/// One line on its way out. tracing-subscriber writes each event in one call.
pub struct Line<W> {
    inner: W,
    secrets: Arc<[SecretString]>,
}

impl<'w, M: MakeWriter<'w>> MakeWriter<'w> for Redacting<M> {
    type Writer = Line<M::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        Line { inner: self.inner.make_writer(), secrets: Arc::clone(&self.secrets) }
    }
}

impl<W: Write> Write for Line<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let hit = self.secrets.iter().any(|secret| text.contains(secret.expose_secret()));
        if !hit {
            return self.inner.write_all(line).map(|()| line.len());
        }
        let clean = self
            .secrets
            .iter()
            .fold(text.into_owned(), |text, secret| text.replace(secret.expose_secret(), MARK));
        self.inner.write_all(clean.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_get_through_and_the_rest_does() {
        let secret = SecretString::from("canary-0123456789");
        let mut out = Vec::new();
        let mut line = Line { inner: &mut out, secrets: Arc::from([secret]) };
        line.write_all(b"GET /botcanary-0123456789/getMe\n").unwrap();
        line.write_all(b"hello\n").unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "GET /bot[redacted]/getMe\nhello\n");
    }
}
