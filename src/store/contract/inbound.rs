//! Events, and the conversations they belong to.

use std::time::Duration;

use super::{LEASE, T0, second};
use crate::clock::Timestamp;
use crate::model::{ChannelId, Event, Occurrence, Person, PlatformKind, ResponseUrl, Visit};
use crate::store::{ConversationKey, Conversations, Forgotten, Held, Recorded, Saved};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// An event that carries all an event can carry.
pub(crate) fn event(id: &str, at: Timestamp) -> Event {
    Event {
        id: id.to_owned(),
        visit: Visit {
            channel: ChannelId::new(PlatformKind::Slack, "C0A").unwrap(),
            thread: Some("1.2".to_owned()),
            direct: false,
            person: Person { id: "U0ADA".to_owned(), name: Some("Ada".to_owned()), outsider: true },
        },
        what: Occurrence::Command {
            name: "mykagent".to_owned(),
            text: "which pods fail?".to_owned(),
            message_id: None,
        },
        respond: Some(ResponseUrl::new("https://hooks.slack.test/commands/T1/2/secret")),
        at,
        traceparent: Some(TRACE.to_owned()),
        happened_at: Some(at),
    }
}

fn key(name: &str) -> ConversationKey {
    format!("slack:{name}/1.2")
}

async fn take(store: &dyn Conversations, conversation: &str, id: &str, at: Timestamp) -> bool {
    store.take(&key(conversation), &event(id, at)).await.unwrap()
}

async fn hold(store: &dyn Conversations, who: &str, now: Timestamp) -> Vec<Held> {
    store.hold(who, now, LEASE, 10).await.unwrap()
}

async fn hold_one(store: &dyn Conversations, who: &str, now: Timestamp) -> Held {
    let mut held = hold(store, who, now).await;
    assert_eq!(held.len(), 1, "{held:?}");
    held.remove(0)
}

async fn save(store: &dyn Conversations, held: &Held, saved: Saved, now: Timestamp) -> Recorded {
    store.save(held, &saved, now, LEASE).await.unwrap()
}

/// Everything that waits is handled, and the conversation let go.
fn done(held: &Held) -> Saved {
    Saved {
        state: "{}".to_owned(),
        handled: held.events.iter().map(|waiting| waiting.seq).collect(),
        release: true,
        ..Saved::default()
    }
}

pub(crate) fn ids(held: &Held) -> Vec<&str> {
    held.events.iter().map(|waiting| waiting.event.id.as_str()).collect()
}

fn names(held: &[Held]) -> Vec<&str> {
    held.iter().map(|held| held.conversation.as_str()).collect()
}

/// Runs the suite; `open` gives an empty store each time.
pub(crate) async fn suite<S: Conversations, F: Future<Output = S>>(open: impl Fn() -> F) {
    takes_an_event_once_as_it_was(&open().await).await;
    loses_nothing_in_a_burst(&open().await).await;
    keeps_the_order_of_arrival(&open().await).await;
    whoever_has_waited_longest_comes_first(&open().await).await;
    one_holds_a_conversation_until_its_lease_ends(&open().await).await;
    what_was_let_go_is_free_and_no_longer_held(&open().await).await;
    what_comes_in_meanwhile_is_seen_and_stays(&open().await).await;
    a_step_is_saved_whole_or_not_at_all(&open().await).await;
    handles_only_its_own_events(&open().await).await;
    its_time_comes_without_an_event(&open().await).await;
    a_step_that_was_cut_short_is_taken_up(&open().await).await;
    a_button_leads_to_its_conversation_until_it_expires(&open().await).await;
    forgets_what_is_over_and_old(&open().await).await;
}

async fn takes_an_event_once_as_it_was(store: &dyn Conversations) {
    assert!(!store.knows(&key("a")).await.unwrap());
    assert!(take(store, "a", "1", T0).await);
    assert!(!take(store, "a", "1", second(1)).await, "known");
    assert!(!take(store, "b", "1", T0).await, "the ID counts, wherever it seems to belong");
    let mut elsewhere = event("1", T0);
    elsewhere.visit.channel = ChannelId::new(PlatformKind::Telegram, "-100").unwrap();
    assert!(store.take(&key("t"), &elsewhere).await.unwrap(), "another platform's ID");
    assert!(store.knows(&key("a")).await.unwrap());
    assert!(!store.knows(&key("b")).await.unwrap(), "what is known makes no conversation");
    let held = hold(store, "p1", T0).await;
    assert_eq!(names(&held), [key("a"), key("t")]);
    assert_eq!(held[0].events[0].event, event("1", T0));
    assert_eq!(held[0].state, None, "nothing was saved of it yet");
    save(store, &held[0], done(&held[0]), T0).await;
    assert!(!take(store, "a", "1", second(1)).await, "known although it is handled");
    assert!(hold(store, "p1", second(1)).await.is_empty());
}

async fn loses_nothing_in_a_burst(store: &dyn Conversations) {
    let takes = (0..1_000).map(async |n| {
        assert!(take(store, &format!("{}", n % 10), &format!("{n}"), T0).await);
    });
    futures_util::future::join_all(takes).await;
    let held = hold(store, "p1", T0).await;
    assert_eq!(held.len(), 10);
    // Those that came at the same moment have no order, so each is looked for.
    let mut numbers: Vec<u32> = held.iter().flat_map(ids).map(|id| id.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..1_000).collect::<Vec<_>>());
    for held in &held {
        assert!(held.events.is_sorted_by_key(|waiting| waiting.seq));
    }
}

async fn keeps_the_order_of_arrival(store: &dyn Conversations) {
    // Not the order of their times: one process's clock may be behind another's.
    for (n, at) in [9, 3, 7, 1, 1, 8].into_iter().enumerate() {
        take(store, "a", &format!("{n}"), second(at)).await;
    }
    assert_eq!(ids(&hold_one(store, "p1", T0).await), ["0", "1", "2", "3", "4", "5"]);
}

async fn whoever_has_waited_longest_comes_first(store: &dyn Conversations) {
    for (name, id, at) in [("c", "1", 0), ("a", "2", 1), ("b", "3", 2), ("c", "4", 3)] {
        take(store, name, id, second(at)).await;
    }
    let first = store.hold("p1", second(5), LEASE, 2).await.unwrap();
    assert_eq!(names(&first), [key("c"), key("a")]);
    assert_eq!(ids(&first[0]), ["1", "4"], "all that waits in it");
    let due = Saved { due: Some(second(10)), ..done(&first[0]) };
    save(store, &first[0], due, second(5)).await;
    save(store, &first[1], done(&first[1]), second(5)).await;
    take(store, "a", "5", second(11)).await;
    assert_eq!(names(&hold(store, "p1", second(12)).await), [key("b"), key("c"), key("a")]);
    assert!(hold(store, "p1", second(12)).await.is_empty());
}

async fn one_holds_a_conversation_until_its_lease_ends(store: &dyn Conversations) {
    assert_eq!(store.next_look().await.unwrap(), None);
    take(store, "a", "1", T0).await;
    assert!(store.next_look().await.unwrap().unwrap() <= T0, "at once");
    let first = hold_one(store, "p1", T0).await;
    for who in ["p1", "p2"] {
        assert!(hold(store, who, second(29)).await.is_empty());
    }
    assert_eq!(store.next_look().await.unwrap(), Some(T0.after(LEASE)));
    assert_eq!(store.renew(&first, second(29), LEASE).await.unwrap(), Recorded::Done);
    assert!(hold(store, "p2", second(58)).await.is_empty(), "it counts from the renewal");
    let second_holder = hold_one(store, "p2", second(59)).await;
    assert!(second_holder.epoch > first.epoch);
    assert_eq!(ids(&second_holder), ["1"], "what was not handled is handed over");
    assert_eq!(store.renew(&first, second(60), LEASE).await.unwrap(), Recorded::Fenced);
    assert_eq!(save(store, &first, done(&first), second(60)).await, Recorded::Fenced);
    assert!(hold(store, "p3", second(88)).await.is_empty(), "p2 holds it undisturbed");
    // The lease is over, but nobody took it: what p2 did is no less true.
    assert_eq!(save(store, &second_holder, done(&second_holder), second(95)).await, Recorded::Done);
    assert!(hold(store, "p3", second(200)).await.is_empty());
}

async fn what_was_let_go_is_free_and_no_longer_held(store: &dyn Conversations) {
    take(store, "a", "1", T0).await;
    let first = hold_one(store, "p1", T0).await;
    assert_eq!(save(store, &first, done(&first), T0).await, Recorded::Done);
    assert_eq!(store.renew(&first, T0, LEASE).await.unwrap(), Recorded::Fenced);
    assert_eq!(save(store, &first, done(&first), T0).await, Recorded::Fenced);
    assert_eq!(store.next_look().await.unwrap(), None);
    take(store, "a", "2", T0).await;
    let again = hold_one(store, "p2", T0).await;
    assert_eq!(ids(&again), ["2"]);
    let later = Saved { handled: Vec::new(), ..done(&again) };
    save(store, &again, later, T0).await;
    assert_eq!(ids(&hold_one(store, "p1", T0).await), ["2"], "it was left for somebody else");
}

async fn what_comes_in_meanwhile_is_seen_and_stays(store: &dyn Conversations) {
    take(store, "a", "1", T0).await;
    let held = hold_one(store, "p1", T0).await;
    take(store, "a", "2", second(1)).await;
    take(store, "b", "3", second(1)).await;
    let last = held.events[0].seq;
    let new = store.waiting(&key("a"), last).await.unwrap();
    assert_eq!(new.iter().map(|w| w.event.id.as_str()).collect::<Vec<_>>(), ["2"]);
    assert_eq!(store.waiting(&key("a"), 0).await.unwrap().len(), 2);
    let keep = Saved { release: false, ..done(&held) };
    assert_eq!(save(store, &held, keep, second(2)).await, Recorded::Done);
    assert_eq!(store.waiting(&key("a"), 0).await.unwrap(), new, "handled events wait no more");
    assert_eq!(names(&hold(store, "p2", second(31)).await), [key("b")], "a is held until 0:32");
    let let_go = Saved { handled: Vec::new(), ..done(&held) };
    save(store, &held, let_go, second(31)).await;
    assert_eq!(ids(&hold_one(store, "p2", second(31)).await), ["2"]);
}

async fn a_step_is_saved_whole_or_not_at_all(store: &dyn Conversations) {
    take(store, "a", "1", T0).await;
    let lost = hold_one(store, "p1", T0).await;
    let held = hold_one(store, "p2", second(30)).await;
    let step = |state: &str, button: &str| Saved {
        state: state.to_owned(),
        buttons: vec![(button.to_owned(), second(1000))],
        due: Some(second(40)),
        ..done(&held)
    };
    assert_eq!(save(store, &lost, step("lost", "k1"), second(31)).await, Recorded::Fenced);
    assert_eq!(store.button("k1", second(31)).await.unwrap(), None);
    assert_eq!(store.waiting(&key("a"), 0).await.unwrap().len(), 1);
    assert_eq!(save(store, &held, step("kept", "k2"), second(32)).await, Recorded::Done);
    assert_eq!(store.button("k2", second(32)).await.unwrap(), Some(key("a")));
    assert!(store.waiting(&key("a"), 0).await.unwrap().is_empty());
    let again = hold_one(store, "p1", second(40)).await;
    assert_eq!((again.state.as_deref(), again.events.len()), (Some("kept"), 0));
}

async fn handles_only_its_own_events(store: &dyn Conversations) {
    take(store, "a", "1", T0).await;
    take(store, "b", "2", T0).await;
    let held = hold(store, "p1", T0).await;
    let every = held.iter().flat_map(|held| held.events.iter().map(|waiting| waiting.seq));
    let greedy = Saved { handled: every.collect(), ..done(&held[0]) };
    save(store, &held[0], greedy, T0).await;
    assert_eq!(store.waiting(&key("b"), 0).await.unwrap().len(), 1);
}

async fn its_time_comes_without_an_event(store: &dyn Conversations) {
    take(store, "a", "1", T0).await;
    let held = hold_one(store, "p1", T0).await;
    save(store, &held, Saved { due: Some(second(60)), ..done(&held) }, T0).await;
    assert_eq!(store.next_look().await.unwrap(), Some(second(60)));
    assert!(hold(store, "p1", second(59)).await.is_empty());
    let held = hold_one(store, "p1", second(60)).await;
    assert!(held.events.is_empty());
    save(store, &held, done(&held), second(60)).await;
    assert_eq!(store.next_look().await.unwrap(), None);
    assert!(hold(store, "p1", second(1000)).await.is_empty(), "no new time was set");
    take(store, "a", "2", second(61)).await;
    let held = hold_one(store, "p1", second(61)).await;
    save(store, &held, Saved { due: Some(second(500)), ..done(&held) }, second(61)).await;
    take(store, "a", "3", second(62)).await;
    assert_eq!(
        ids(&hold_one(store, "p1", second(62)).await),
        ["3"],
        "an event does not wait for it"
    );
}

async fn a_step_that_was_cut_short_is_taken_up(store: &dyn Conversations) {
    take(store, "a", "1", T0).await;
    let held = hold_one(store, "p1", T0).await;
    let turn_runs = Saved { state: "turn runs".to_owned(), release: false, ..done(&held) };
    save(store, &held, turn_runs, second(5)).await;
    // The process ends here: no event waits and no time is set, but the turn is not over.
    assert_eq!(store.next_look().await.unwrap(), Some(second(35)));
    assert!(hold(store, "p2", second(34)).await.is_empty());
    let taken_up = hold_one(store, "p2", second(35)).await;
    assert_eq!(taken_up.state.as_deref(), Some("turn runs"));
    assert!(taken_up.events.is_empty());
}

async fn a_button_leads_to_its_conversation_until_it_expires(store: &dyn Conversations) {
    for (name, id) in [("a", "1"), ("b", "2")] {
        take(store, name, id, T0).await;
        let held = hold_one(store, "p1", T0).await;
        let button = (format!("key of {name}"), second(60));
        save(store, &held, Saved { buttons: vec![button], ..done(&held) }, T0).await;
    }
    assert_eq!(store.button("key of a", second(59)).await.unwrap(), Some(key("a")));
    assert_eq!(store.button("key of b", second(59)).await.unwrap(), Some(key("b")));
    assert_eq!(store.button("key of a", second(60)).await.unwrap(), None);
    assert_eq!(store.button("key of c", T0).await.unwrap(), None);
}

async fn forgets_what_is_over_and_old(store: &dyn Conversations) {
    let day = |n: u64| T0.after(Duration::from_secs(n * 86_400));
    for (name, id) in [("over", "1"), ("due", "2"), ("held", "3"), ("waits", "4")] {
        take(store, name, id, T0).await;
    }
    for held in hold(store, "p1", T0).await {
        let mut saved = Saved { buttons: vec![(held.conversation.clone(), day(2))], ..done(&held) };
        if held.conversation == key("due") {
            saved.due = Some(day(50));
        } else if held.conversation == key("held") {
            saved.release = false;
        } else if held.conversation == key("waits") {
            saved.handled.clear();
        }
        save(store, &held, saved, T0).await;
    }
    take(store, "fresh", "5", day(9)).await;
    assert_eq!(store.forget(T0, day(1), 10).await.unwrap(), Forgotten::default());
    assert!(store.knows(&key("over")).await.unwrap(), "not before its time");
    assert!(!take(store, "over", "1", day(1)).await, "still known");
    let two = Forgotten { events: 2, conversations: 1, buttons: 0 };
    assert_eq!(store.forget(day(5), day(1), 2).await.unwrap(), two);
    let one = Forgotten { events: 1, conversations: 0, buttons: 0 };
    assert_eq!(store.forget(day(5), day(1), 2).await.unwrap(), one, "so many at once");
    for (name, known) in
        [("over", false), ("due", true), ("held", true), ("waits", true), ("fresh", true)]
    {
        assert_eq!(store.knows(&key(name)).await.unwrap(), known, "{name}");
    }
    assert_eq!(store.waiting(&key("waits"), 0).await.unwrap().len(), 1);
    assert!(!take(store, "waits", "4", day(9)).await, "what waits is known");
    assert!(take(store, "new", "1", day(9)).await, "what was handled is forgotten");
    assert!(store.button(&key("over"), day(1)).await.unwrap().is_some(), "not expired");
    let three = Forgotten { events: 0, conversations: 0, buttons: 3 };
    assert_eq!(store.forget(day(5), day(2), 3).await.unwrap(), three);
    assert_eq!(store.forget(day(5), day(2), 3).await.unwrap().buttons, 1);
    assert_eq!(store.button(&key("over"), day(1)).await.unwrap(), None);
    // A forgotten conversation begins anew.
    take(store, "over", "6", day(10)).await;
    let held = hold(store, "p1", day(10)).await;
    let over = held.iter().find(|held| held.conversation == key("over")).unwrap();
    assert_eq!(over.state, None);
}
