//! Entry point of the fuzzer: what Discord says through its gateway.

#![expect(clippy::unwrap_used, reason = "a panic is a finding")]

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::events::{Heard, Servers, What};
use super::gateway::{Connection, End};
use super::session::{Session, intents, is_gateway};
use super::{Config, Discord, is_id};
use crate::clock::ManualClock;
use crate::platform::fuzzing::{
    NOW, Shelf, block_on, client, judge_file, judge_person, judge_text,
};
use crate::platform::listener::{Ears, Standing};

const TOKEN: &str = "MTIzNDU2.canary.discord";
/// The most frames of one input.
const MOST_FRAMES: usize = 64;

fn base() -> Url {
    "https://discord.com/api/v10/".parse().unwrap()
}

/// Frames of the gateway, one on each line. A first line `new` begins without a session.
pub(crate) fn gateway(data: &[u8]) {
    let frames = data.split(|byte| *byte == b'\n').take(MOST_FRAMES);
    let mut frames = frames.filter_map(|frame| std::str::from_utf8(frame).ok()).peekable();
    let intents = intents(false);
    let mut session = Some(Session {
        id: "s0".to_owned(),
        seq: 0,
        resume: None,
        user: "500000000000000001".to_owned(),
        application: "500000000000000001".to_owned(),
        intents,
    });
    if frames.next_if_eq(&"new").is_some() {
        session = None;
    }
    let config =
        Config { bot_token: Some(TOKEN.into()), api_url: Some(base()), ..Config::default() };
    let discord = Discord::new(&config, client()).unwrap();
    let shelf = Arc::new(Shelf::default());
    let ears = Ears {
        inbox: shelf.clone(),
        cursor: shelf,
        standing: watch::Sender::new(Standing::Starting),
        stop: CancellationToken::new(),
    };
    let mut connection = Connection {
        discord: &discord,
        servers: &Servers::default(),
        clock: &ManualClock::at(NOW),
        ears: &ears,
        queue: &mpsc::channel(1).0,
        intents,
        session: &mut session,
        identified: &mut None,
        established: None,
    };
    let mut sink = futures_util::sink::drain::<Message>();
    let mut heart = None;
    block_on(async {
        for frame in frames {
            match connection.hear(frame, &mut sink, &mut heart).await {
                Ok(None) => {}
                Ok(Some(item)) => {
                    judge_session(&item.session, intents);
                    if let Some(heard) = &item.heard {
                        judge(heard, &item.session);
                    }
                    if let (Some(session), Some(seq)) = (connection.session.as_mut(), item.seq) {
                        session.seq = seq;
                    }
                }
                Err(End::Lost(why) | End::Expired(why)) => {
                    assert!(!why.is_empty() && !why.contains(TOKEN), "{why}");
                    return;
                }
                Err(end) => unreachable!("no frame says {end:?}"),
            }
        }
    });
}

/// Another process can go on with it, and shows the token to nobody but Discord.
fn judge_session(session: &Session, intents: u64) {
    assert!(session.resume.as_ref().is_none_or(|url| is_gateway(url, &base())), "{session:?}");
    let cursor = session.to_cursor().unwrap();
    let read = Session::remembered(&cursor, intents, &base());
    assert_eq!(read.as_ref(), Some(session), "as it is remembered");
}

fn judge(heard: &Heard, session: &Session) {
    assert!(is_id(&heard.id) && is_id(&heard.channel), "{heard:?}");
    judge_person(&heard.person);
    match &heard.what {
        What::Message { text, files, .. } => {
            assert_ne!(heard.person.id, session.user, "it hears itself");
            judge_text(text);
            assert!(files.len() <= 10, "{heard:?}");
            files.iter().for_each(judge_file);
        }
        What::Command { name, text, token } => {
            judge_text(text);
            // Lower case may be longer.
            assert!(name.chars().count() <= 300, "{name}");
            assert_eq!(format!("{token:?}"), "Token(…)");
        }
        What::Press { key, token, .. } => {
            assert!(key.chars().count() <= 100, "{key}");
            assert_eq!(format!("{token:?}"), "Token(…)");
        }
    }
}
