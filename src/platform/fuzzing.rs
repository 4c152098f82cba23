//! What the entry points of the platforms' fuzzers share: where events go, and what holds for every one of them.

#![expect(clippy::unwrap_used, reason = "a panic is a finding")]

use std::sync::{Mutex, OnceLock};

use async_trait::async_trait;
use tokio::runtime::{Builder, Runtime};

use super::http::{HttpClient, Settings, install_crypto_provider};
use super::listener::{Cursor, Inbox, NotTaken, Taken};
use crate::clock::Timestamp;
use crate::model::{Event, Occurrence};

/// The most characters of a text that somebody wrote, and that a name may add where it stands for an ID.
const MOST_TEXT: usize = 8_200;
/// The most characters of a name.
const MOST_NAME: usize = 200;
/// The most bytes of an ID or a key.
const MOST_ID: usize = 400;
/// The most files of one message.
const MOST_FILES: usize = 10;

/// When everything happens.
pub(crate) const NOW: Timestamp = Timestamp(1_790_000_000_000);

/// Runs on a runtime that each thread makes once.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread().enable_all().build().unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// A client that nobody asks for anything. Making one takes longer than most inputs.
pub(super) fn client() -> HttpClient {
    static CLIENT: OnceLock<HttpClient> = OnceLock::new();
    let make = || {
        install_crypto_provider();
        HttpClient::new(&Settings { proxy_from_environment: false, ..Settings::default() }).unwrap()
    };
    CLIENT.get_or_init(make).clone()
}

/// Keeps what it is given, and looks at it.
#[derive(Debug, Default)]
pub(crate) struct Shelf(Mutex<Vec<Event>>);

impl Shelf {
    /// What was taken since this was asked.
    pub(super) fn emptied(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

#[async_trait]
impl Inbox for Shelf {
    async fn take(&self, event: Event) -> Result<Taken, NotTaken> {
        judge(&event);
        self.0.lock().unwrap().push(event);
        Ok(Taken::Stored)
    }
}

#[async_trait]
impl Cursor for Shelf {
    async fn load(&self) -> Option<String> {
        None
    }
    async fn save(&self, _value: &str) -> Result<(), NotTaken> {
        Ok(())
    }
}

/// An event is bounded, has what the bot needs, and comes back from the store as it went in.
pub(crate) fn judge(event: &Event) {
    let Event { id, visit, what, .. } = event;
    let fine = |id: &str| (1..=MOST_ID).contains(&id.len());
    assert!(fine(id), "an event's ID: {id:?}");
    judge_person(&visit.person);
    if let Some(thread) = &visit.thread {
        assert!(fine(thread), "a thread's ID: {thread:?}");
    }
    match what {
        Occurrence::Message { message_id, text, files, .. } => {
            assert!(fine(message_id) && files.len() <= MOST_FILES, "a message: {event:?}");
            judge_text(text);
            for file in files {
                judge_file(file);
            }
        }
        Occurrence::Command { name, text, .. } => {
            // Lower case may be longer.
            assert!(name.chars().count() <= 3 * MOST_NAME, "a command's name: {name:?}");
            judge_text(text);
        }
        Occurrence::Press { key, .. } => assert!((1..=64).contains(&key.len()), "a key: {key:?}"),
    }
    let stored = serde_json::to_string(event).unwrap();
    assert_eq!(serde_json::from_str::<Event>(&stored).unwrap(), *event, "as it is stored");
}

/// A file has a name and somewhere to fetch it.
pub(crate) fn judge_file(file: &crate::model::Attachment) {
    let line = |text: &str| text.chars().count() <= 255 && !text.chars().any(char::is_control);
    assert!(line(&file.name) && line(&file.mime), "{file:?}");
    assert!(file.source.len() <= 2_048, "{file:?}");
}

/// A stranger's text is bounded.
pub(crate) fn judge_text(text: &str) {
    assert!(text.chars().count() <= MOST_TEXT, "a text of {} characters", text.chars().count());
}

/// Somebody has an ID, and a name of one line.
pub(crate) fn judge_person(person: &crate::model::Person) {
    assert!((1..=MOST_ID).contains(&person.id.len()), "{person:?}");
    if let Some(name) = &person.name {
        let line = !name.is_empty() && !name.chars().any(char::is_control);
        assert!(line && name.chars().count() <= MOST_NAME, "{person:?}");
    }
}
