//! Entry point of the fuzzer: what Telegram answers when it is asked for updates.

use serde_json::Value;

use super::polling::number_within;
use super::updates::{self, Me, Skipped};
use crate::platform::fuzzing::{NOW, judge};

/// The body of an answer to `getUpdates`; a lone update and a lone `getMe` will do, too.
pub(crate) fn updates(data: &[u8]) {
    // What is asked of a body that cannot be read.
    assert!(number_within(data).is_none_or(|number| number >= 0), "a number");
    let Ok(answer) = serde_json::from_slice::<Value>(data) else { return };
    let me = Me { id: 42, username: Some("Herald_bot".to_owned()), hears_everything: false };
    let result = answer.get("result").unwrap_or(&answer);
    let me = Me::read(result).unwrap_or(me);
    let updates = result.as_array().map_or(std::slice::from_ref(result), Vec::as_slice);
    for update in updates {
        match updates::read(update, &me, NOW) {
            Ok(heard) => {
                assert_eq!(
                    updates::number(update).map(|it| it.to_string()),
                    Some(heard.event.id.clone())
                );
                assert_ne!(heard.event.visit.person.id, me.id.to_string(), "{heard:?}");
                judge(&heard.event);
            }
            Err(Skipped::Odd(what)) => assert!(!what.is_empty(), "it says what is missing"),
            Err(Skipped::NotForUs) => {}
        }
    }
}
