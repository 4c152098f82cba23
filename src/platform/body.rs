//! The body of a request that comes in, read within bounds: its own, and those of all bodies together.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::telemetry::metrics::Refusal;

/// What a body may hold without asking: nearly all are shorter.
const ORDINARY: usize = 64 * 1024;

/// What the bodies of one route may take.
#[derive(Debug)]
pub struct Bodies {
    most: usize,
    time: Duration,
    /// What those that are longer than ordinary ones may hold beyond that together, in KiB.
    long: Arc<Semaphore>,
}

/// All of a body. What it holds is free again once this is dropped.
#[derive(Debug)]
pub struct Gathered {
    /// What it says.
    pub bytes: Vec<u8>,
    _held: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    /// Each has at most so many bytes and arrives in this time; what is beyond 64 KiB of each comes to at most `together`
    /// bytes of all of them.
    #[must_use]
    pub fn new(most: usize, together: usize, time: Duration) -> Self {
        Self { most, time, long: Arc::new(Semaphore::new(together / 1024)) }
    }

    /// Reads all of a body.
    ///
    /// # Errors
    /// It is too long, comes too slowly, breaks off, or there is no room for it now. What is left of it was not read.
    pub async fn gather(&self, body: Body) -> Result<Gathered, Refusal> {
        timeout(self.time, self.read(body)).await.unwrap_or(Err(Refusal::TooSlow))
    }

    async fn read(&self, body: Body) -> Result<Gathered, Refusal> {
        let (mut bytes, mut held) = (Vec::new(), None::<OwnedSemaphorePermit>);
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| Refusal::Broken)?;
            if bytes.len() + chunk.len() > self.most {
                return Err(Refusal::TooLarge);
            }
            bytes.extend_from_slice(&chunk);
            let needed = bytes.len().saturating_sub(ORDINARY).div_ceil(1024);
            let missing = needed - held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            if missing > 0 {
                let missing = u32::try_from(missing).unwrap_or(u32::MAX);
                let more = Arc::clone(&self.long).try_acquire_many_owned(missing);
                let more = more.map_err(|_| Refusal::Full)?;
                match &mut held {
                    Some(held) => held.merge(more),
                    None => held = Some(more),
                }
            }
        }
        Ok(Gathered { bytes, _held: held })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn long_bodies_share_what_they_may_hold() {
        const LONG: usize = 1024 * 1024;
        let bodies = Bodies::new(LONG, 4 * LONG, Duration::from_secs(5));
        let long = || bodies.gather(Body::from(vec![b' '; LONG]));
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(long().await.unwrap());
        }
        assert_eq!(long().await.err(), Some(Refusal::Full));
        let ordinary = bodies.gather(Body::from(vec![b' '; ORDINARY])).await;
        assert!(ordinary.is_ok(), "an ordinary one needs no such room");
        held.pop();
        assert!(long().await.is_ok());
    }
}
