//! The second net under the types: a writer that never lets a known secret through, whoever wrote the line.

use std::io::{self, Write};
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use tracing_subscriber::fmt::MakeWriter;

use super::OwnSecrets;

/// What stands where a secret stood.
const MARK: &str = "[redacted]";
/// Shorter secrets would black out ordinary words.
const SHORTEST: usize = 8;

/// A writer of log lines that takes known secrets out of each.
#[derive(Clone)]
pub struct Redacting<M> {
    inner: M,
    secrets: OwnSecrets,
}

impl<M> Redacting<M> {
    /// Takes `secrets` out of what goes to `inner`, those included that become known later.
    pub const fn new(inner: M, secrets: OwnSecrets) -> Self {
        Self { inner, secrets }
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
        Line { inner: self.inner.make_writer(), secrets: self.secrets.all() }
    }
}

impl<W: Write> Write for Line<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let secrets = self.secrets.iter().map(ExposeSecret::expose_secret);
        let long = || secrets.clone().filter(|secret| secret.len() >= SHORTEST);
        if !long().any(|secret| text.contains(secret)) {
            return self.inner.write_all(line).map(|()| line.len());
        }
        let clean = long().fold(text.into_owned(), |text, secret| text.replace(secret, MARK));
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
        let secrets = OwnSecrets::new(&["canary-0123456789".into(), "short".into()]);
        let writer = Redacting::new(Vec::new, secrets.clone());
        let written = |text: &str| {
            let mut line = writer.make_writer();
            line.write_all(text.as_bytes()).unwrap();
            String::from_utf8(line.inner).unwrap()
        };
        assert_eq!(written("GET /botcanary-0123456789/getMe"), "GET /bot[redacted]/getMe");
        assert_eq!(written("hello, short one"), "hello, short one");
        assert_eq!(written("rotated-9876543210"), "rotated-9876543210");
        secrets.keep(&"rotated-9876543210".into());
        assert_eq!(written("now rotated-9876543210"), "now [redacted]");
    }
}
