#[path = "polling_harness.rs"]
mod harness;

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::harness::*;
use super::*;
use crate::clock::ManualClock;
use crate::model::Event;
use crate::platform::listener::{Inbox, Taken};
use crate::platform::scripted::{self, CANARY};
use crate::platform::telegram::Config;

#[tokio::test]
async fn what_is_taken_is_confirmed_once_it_is_taken() {
    let updates = vec![written(811, "one"), written(812, "two")];
    let mut run = run(Notes::default(), false, telegram(updates)).await;
    run.stands(|standing| *standing == Standing::Connected).await;
    run.until("the next poll", |run| run.asked("getUpdates").len() == 2).await;
    assert_eq!(run.texts(), ["one", "two"]);
    assert_eq!(run.cursor().unwrap(), format!("813@{}", NOW.0));
    let polls = run.asked("getUpdates");
    let kinds = json!(["message", "callback_query"]);
    assert_eq!(polls[0], json!({ "limit": 50, "timeout": 0, "allowed_updates": kinds }));
    let next = json!({ "limit": 50, "timeout": 30, "allowed_updates": kinds, "offset": 813 });
    assert_eq!(polls[1], next);
    let menu = run.asked("setMyCommands");
    let names: Vec<_> =
        menu[0]["commands"].as_array().unwrap().iter().map(|c| c["command"].clone()).collect();
    assert_eq!(names, ["start", "help", "new", "status", "cancel"]);
    let (ended, asked) = run.ends().await;
    assert_eq!(ended, Ok(()));
    // Whether the poll that was under way had told it, nobody knows: it is said once more.
    let (method, last) = asked.lock().unwrap().last().unwrap().clone();
    assert_eq!((method.as_str(), &last["offset"]), ("getUpdates", &json!(813)));
    assert_eq!((&last["limit"], &last["timeout"]), (&json!(1), &json!(0)));
}

#[tokio::test]
async fn what_cannot_be_stored_comes_again_and_what_is_behind_it_waits() {
    let updates = vec![written(1, "one"), pressed(2), written(3, "three")];
    let notes = Notes { failures: AtomicUsize::new(2), ..Notes::default() };
    let mut run = run(notes, false, telegram(updates)).await;
    assert!(run.retries().await.contains("could not be stored"));
    run.until("everything", |run| run.texts().len() == 3).await;
    assert_eq!(run.texts(), ["one", "[key]", "three"]);
    let offsets: Vec<Value> =
        run.asked("getUpdates").iter().take(3).map(|poll| poll["offset"].clone()).collect();
    assert_eq!(offsets, [json!(null), json!(null), json!(null)]);
    run.until("an answer to the press", |run| run.asked("answerCallbackQuery").len() == 1).await;
    assert_eq!(run.asked("answerCallbackQuery")[0], json!({ "callback_query_id": "4800" }));
}

#[tokio::test]
async fn an_update_of_unknown_shape_stops_nobody() {
    let updates = vec![
        written(1, "one"),
        json!({ "update_id": 2, "message": { "chat": { "id": "?", "type": "new" }, "from": 7 } }),
        json!({ "update_id": 3, "something_new": { "x": 1 } }),
        written(4, "four"),
    ];
    let run = run(Notes::default(), false, telegram(updates)).await;
    run.until("the rest", |run| run.texts() == ["one", "four"]).await;
    run.until("the cursor", |run| run.cursor().is_some_and(|c| c.starts_with("5@"))).await;
    assert_eq!(run.ends().await.0, Ok(()));
}

#[tokio::test]
async fn an_update_that_is_no_json_is_found_and_left_out_alone() {
    let run = run(Notes::default(), false, |_, body| {
        let updates: Vec<Value> = (1..=60).map(|n| written(n, &format!("{n}"))).collect();
        let left = from(&updates, body);
        let Reply::Now(status, text) = ok(json!(left)) else { unreachable!() };
        if left.is_empty() && body["timeout"] != 0 {
            return Reply::Hold;
        }
        // Half of a character, which no reader of JSON takes.
        Reply::Now(status, text.replace("\"text\":\"7\"", "\"text\":\"\\ud83d\""))
    })
    .await;
    run.until("the rest", |run| run.texts().len() == 59).await;
    assert!(!run.texts().contains(&"7".to_owned()));
    assert!(run.asked("getUpdates").iter().any(|poll| poll["limit"] == 1));
    assert_eq!(run.ends().await.0, Ok(()));
}

/// Trouble, and what is said about it.
type Case = (fn() -> Reply, &'static str);

#[tokio::test]
async fn conflicts_pages_and_limits_are_waited_out() {
    let page = || Reply::Now(502, scripted::hostile());
    let portal = || Reply::Now(200, scripted::hostile());
    let cases: [Case; 7] = [
        (
            || no(409, "Conflict: terminated by other getUpdates request; make sure …"),
            "another getUpdates",
        ),
        (|| no(409, "Conflict: can't use getUpdates method while webhook is active"), "a webhook"),
        (page, "HTTP 502"),
        (portal, "does not speak Telegram's language"),
        (|| no(500, "Internal Server Error"), "HTTP 500"),
        // A proxy that wants a password knows nothing of the bot's token.
        (|| Reply::Now(401, scripted::hostile()), "TELEGRAM_BOT_TOKEN"),
        (|| ok(json!([{ "message": {} }])), "have no number"),
    ];
    for (trouble, words) in cases {
        let mut run = run(Notes::default(), false, move |n, body| match n {
            0..4 => trouble(),
            _ => telegram(vec![written(1, "after")])(n, body),
        })
        .await;
        let why = run.retries().await;
        assert!(why.contains(words), "{why}");
        run.until(words, |run| run.texts() == ["after"]).await;
        run.stands(|standing| *standing == Standing::Connected).await;
        assert_eq!(run.ends().await.0, Ok(()));
    }
}

#[tokio::test]
async fn telegrams_own_time_is_waited_for_in_full() {
    let started = Instant::now();
    let run = run(Notes::default(), false, |n, body| match n {
        0 => Reply::Now(429, json!({ "ok": false, "error_code": 429, "description": "Too Many Requests: retry after 1",
            "parameters": { "retry_after": 1 } }).to_string()),
        _ => telegram(vec![written(1, "after")])(n, body),
    })
    .await;
    run.until("the second poll", |run| run.texts() == ["after"]).await;
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_token_that_telegram_refuses_ends_it() {
    for method in ["getMe", "getUpdates"] {
        for (status, description) in [(401, "Unauthorized"), (404, "Not Found")] {
            let mut run = run_all(Notes::default(), false, move |asked, _| match asked {
                asked if asked == method => no(status, description),
                "getMe" => ok(json!({ "id": 42 })),
                "getWebhookInfo" => ok(json!({ "url": "" })),
                _ => ok(json!(true)),
            })
            .await;
            let failed = run.stands(|s| matches!(s, Standing::Failed { .. })).await;
            let Fatal(why) = timeout(LONG, run.task).await.unwrap().unwrap().unwrap_err();
            assert!(why.contains("TELEGRAM_BOT_TOKEN"), "{why}");
            scripted::assert_no_leak(&why);
            assert_eq!(failed, Standing::Failed { why });
        }
    }
}

#[tokio::test]
async fn pauses_grow_and_never_spin() {
    // Trouble: 20, 40, 80, 160, 200, 200 … ms, three quarters of it each.
    let troubled = run(Notes::default(), false, |_, _| no(409, "Conflict: terminated")).await;
    // Nothing: 100 ms from poll to poll.
    let idle = run(Notes::default(), false, |_, _| ok(json!([]))).await;
    // The same again and again, whatever is asked for.
    let stuck = run(Notes::default(), false, |_, _| ok(json!([written(1, "again")]))).await;
    sleep(Duration::from_millis(600)).await;
    for (run, most) in [(&troubled, 8), (&idle, 9), (&stuck, 9)] {
        let polls = run.asked("getUpdates").len();
        assert!((1..=most).contains(&polls), "{polls} polls, {most} at most");
    }
    assert_eq!(stuck.texts(), ["again"]);
}

#[tokio::test]
async fn it_stops_at_once_in_the_middle_of_a_poll() {
    let mut run = run(Notes::default(), false, telegram(vec![])).await;
    run.stands(|standing| *standing == Standing::Connected).await;
    run.until("a held poll", |run| run.asked("getUpdates").len() == 2).await;
    let mut standing = run.standing.clone();
    let begun = Instant::now();
    assert_eq!(run.ends().await.0, Ok(()));
    assert!(begun.elapsed() < Duration::from_millis(300), "{:?}", begun.elapsed());
    assert_eq!(*standing.borrow_and_update(), Standing::Stopped);
}

#[tokio::test]
async fn what_arrives_as_it_is_told_to_stop_is_left_to_others() {
    let config = Config { bot_token: Some(CANARY.into()), ..Config::default() };
    let api = crate::platform::telegram::api(&config, scripted::client()).unwrap();
    let polling = Polling::new(api, false, Arc::new(ManualClock::at(NOW)));
    let (notes, stop) = (Arc::new(Notes::default()), CancellationToken::new());
    let standing = watch::Sender::new(Standing::Connected);
    let ears = Ears { inbox: notes.clone(), cursor: notes.clone(), standing, stop: stop.clone() };
    let mut session = Session::new(&polling, &ears);
    let me = Me::read(&json!({ "id": 42, "is_bot": true, "username": "herald_bot" })).unwrap();
    stop.cancel();
    let taken = session.take(&me, &[written(811, "one")]).await;
    assert!(matches!(taken, Err(Trouble::Stopped)), "{taken:?}");
    assert!(notes.events.lock().unwrap().is_empty() && notes.cursor.lock().unwrap().is_none());
}

#[tokio::test]
async fn what_was_taken_last_is_confirmed_before_it_ends() {
    let stop = Arc::new(Mutex::new(None::<CancellationToken>));
    let hook = stop.clone();
    let run = run(Notes::default(), false, move |n, body| match n {
        // It is told to stop while the answer is on its way to it, or is being taken.
        0 => ok(json!([])),
        1 => ok(json!([written(1, "one")])),
        _ if body["timeout"] == 0 => ok(json!([])),
        _ => {
            if let Some(stop) = hook.lock().unwrap().take() {
                stop.cancel();
            }
            no(502, "Bad Gateway")
        }
    })
    .await;
    *stop.lock().unwrap() = Some(run.stop.clone());
    run.until("the message", |run| run.texts() == ["one"]).await;
    let (ended, asked) = run.ends().await;
    assert_eq!(ended, Ok(()));
    let asked = asked.lock().unwrap();
    let polls: Vec<_> = asked.iter().filter(|(method, _)| method == "getUpdates").collect();
    assert!(polls.iter().any(|(_, body)| body["offset"] == 2), "{polls:?}");
}

#[tokio::test]
async fn an_inbox_that_hangs_does_not_hold_up_the_end() {
    struct Stuck(CancellationToken);
    #[async_trait]
    impl Inbox for Stuck {
        async fn take(&self, _: Event) -> Result<Taken, NotTaken> {
            self.0.cancel();
            std::future::pending().await
        }
    }
    let (standing, _seen) = watch::channel(Standing::Starting);
    let (stop, held) = (CancellationToken::new(), CancellationToken::new());
    let ears = Ears {
        inbox: Arc::new(Stuck(held.clone())),
        cursor: Arc::new(Notes::default()),
        standing,
        stop: stop.clone(),
    };
    let config = Config {
        bot_token: Some(CANARY.into()),
        api_url: Some(server(vec![written(1, "one")]).await),
        ..Config::default()
    };
    let http = scripted::client();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(NOW));
    let listener = super::super::listener(&config, &http, &clock).unwrap();
    assert!(listener.exclusive());
    let task = tokio::spawn(async move { listener.listen(ears).await });
    timeout(LONG, held.cancelled()).await.unwrap();
    stop.cancel();
    let ended = timeout(Duration::from_secs(1), task).await.unwrap().unwrap();
    assert_eq!(ended, Ok(()));
}

/// A server that answers every poll alike.
async fn server(updates: Vec<Value>) -> url::Url {
    let world = scripted::Scripted::new(move |seen| {
        let result = match seen.path.rsplit('/').next().unwrap() {
            "getMe" => json!({ "id": 42 }),
            "getUpdates" => json!(updates),
            "getWebhookInfo" => json!({ "url": "" }),
            _ => json!(true),
        };
        scripted::Reply::json(200, json!({ "ok": true, "result": result }))
    })
    .await;
    world.url.clone()
}

#[tokio::test]
async fn pending_updates_are_dropped_only_if_that_is_asked_for() {
    let webhook = |url: &'static str| {
        move |method: &str, _: &Value| match method {
            "getMe" => ok(json!({ "id": 42, "username": "herald_bot" })),
            "getWebhookInfo" => ok(json!({ "url": url })),
            "getUpdates" => Reply::Hold,
            _ => ok(json!(true)),
        }
    };
    for (url, drop, deleted) in [
        ("", false, vec![]),
        ("https://e.org/secret", false, vec![json!({})]),
        ("", true, vec![json!({ "drop_pending_updates": true })]),
        ("https://e.org/secret", true, vec![json!({ "drop_pending_updates": true })]),
    ] {
        let run = run_all(Notes::default(), drop, webhook(url)).await;
        run.until("a poll", |run| !run.asked("getUpdates").is_empty()).await;
        assert_eq!(run.asked("deleteWebhook"), deleted, "{url} {drop}");
    }
}

#[tokio::test]
async fn a_menu_that_cannot_be_set_is_no_obstacle() {
    let run = run_all(Notes::default(), false, |method, body| match method {
        "getMe" => ok(json!({ "id": 42 })),
        "getWebhookInfo" => ok(json!({ "url": "" })),
        "setMyCommands" => no(400, "Bad Request: BOT_COMMAND_INVALID"),
        _ => telegram(vec![written(1, "one")])(0, body),
    })
    .await;
    run.until("the message", |run| run.texts() == ["one"]).await;
}

#[tokio::test]
async fn it_goes_on_where_it_was_unless_that_was_a_week_ago() {
    let fresh = format!("500@{}", NOW.0 - 3_600_000);
    let stale = format!("500@{}", NOW.0 - 7 * 24 * 3_600_000);
    for (cursor, offset) in [
        (fresh.as_str(), json!(500)),
        (stale.as_str(), json!(null)),
        ("500", json!(null)),
        ("-5@1790000000000", json!(null)),
        ("nonsense", json!(null)),
    ] {
        let notes = Notes { cursor: Mutex::new(Some(cursor.to_owned())), ..Notes::default() };
        let run = run(notes, false, telegram(vec![])).await;
        run.until("a poll", |run| !run.asked("getUpdates").is_empty()).await;
        assert_eq!(run.asked("getUpdates")[0]["offset"], offset, "{cursor}");
    }
}
