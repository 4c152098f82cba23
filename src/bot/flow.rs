//! What is heard of the agent, in a task of its own: waiting for it keeps the conversation from nothing else.

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::a2a::{self, Caller, Client, Outcome, Outgoing, Update};
use crate::telemetry::trace;

/// What is heard of the agent.
pub(super) enum News {
    Update(Update),
    /// It could not be asked.
    Failed(a2a::Error),
}

/// A run in a task of its own, so that waiting for the agent never keeps the conversation from anything else.
pub(super) struct Flow {
    pub(super) news: mpsc::Receiver<News>,
    task: JoinHandle<()>,
}

impl Flow {
    pub(super) fn send(client: &Client, message: Outgoing, caller: Caller) -> Self {
        let client = client.clone();
        Self::start(|news| async move {
            match client.send(&message, &caller).await {
                Ok(run) => forward(run, news).await,
                Err(error) => drop(news.send(News::Failed(error)).await),
            }
        })
    }

    pub(super) fn resume(client: &Client, task_id: &str, caller: &Caller) -> Self {
        let run = client.resume(task_id, caller);
        Self::start(|news| forward(run, news))
    }

    pub(super) fn ended(outcome: Outcome) -> Self {
        Self::start(|news| async move {
            let _ = news.send(News::Update(Update::Ended(outcome))).await;
        })
    }

    fn start<F>(work: impl FnOnce(mpsc::Sender<News>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (to, news) = mpsc::channel(64);
        Self { news, task: tokio::spawn(trace::carry(work(to))) }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(mut run: a2a::Run, news: mpsc::Sender<News>) {
    while let Some(update) = run.next().await {
        if news.send(News::Update(update)).await.is_err() {
            return;
        }
    }
}
