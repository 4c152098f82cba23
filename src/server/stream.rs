//! One connection's bytes: an answer has to be taken in time, and a refused client gets to read why.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// How long what the client still sends is thrown away after the last answer: a socket that is closed with unread bytes
/// in it is reset, and a client that is still writing would see the reset instead of the answer.
const GOODBYE: Duration = Duration::from_secs(1);

/// A connection that ends when its client does not take an answer.
pub(super) struct Stream {
    tcp: TcpStream,
    answer: Duration,
    /// Runs from when the client first let an answer wait until all of it was taken: reading a byte now and then wins no
    /// time.
    late: Option<Pin<Box<Sleep>>>,
    leaving: Option<Pin<Box<Sleep>>>,
}

impl Stream {
    /// One of whose answers each has to be taken within `answer`.
    pub(super) const fn new(tcp: TcpStream, answer: Duration) -> Self {
        Self { tcp, answer, late: None, leaving: None }
    }

    /// What a write came to, unless it has been waiting for too long.
    fn judge<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            return written;
        }
        let late = self.late.get_or_insert_with(|| Box::pin(sleep(self.answer)));
        ready!(late.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the answer was not taken")))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(cx, bytes);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write_vectored(cx, bytes);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    /// Called once all of an answer was written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.tcp).poll_flush(cx));
        self.late = None;
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { tcp, leaving, .. } = &mut *self;
        if leaving.is_none() {
            ready!(Pin::new(&mut *tcp).poll_shutdown(cx))?;
        }
        let leaving = leaving.get_or_insert_with(|| Box::pin(sleep(GOODBYE)));
        let mut unread = [0; 4096];
        while leaving.as_mut().poll(cx).is_pending() {
            let mut unread = ReadBuf::new(&mut unread);
            match ready!(Pin::new(&mut *tcp).poll_read(cx, &mut unread)) {
                Ok(()) if !unread.filled().is_empty() => {}
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
