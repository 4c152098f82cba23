//! Watching a task whose connection does not hold.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use super::client::Patience;
use super::scripted::{
    Agent, Piece, Reply, artifact, caller, client, done, ended, in_turn, message, quick, status,
    task, told,
};
use super::*;

fn config() -> Config {
    Config::default()
}

fn impatient() -> Patience {
    Patience { idle: Duration::from_millis(60), ..quick() }
}

#[tokio::test]
async fn a_broken_stream_is_listened_to_again_and_the_whole_answer_is_read_at_the_end() {
    let agent = Agent::v03(|seen| match seen.method.as_str() {
        "message/stream" => {
            Reply::events(&[status("submitted"), artifact("The begin")]).then(Piece::Break)
        }
        "tasks/resubscribe" => Reply::events(&[artifact("a piece"), status("completed")]),
        _ => match seen.params["historyLength"].as_i64() {
            Some(1) if seen.params["id"] == "t-1" => Reply::result(task("working")),
            _ => panic!("{seen:?}"),
        },
    })
    .await;
    let run = agent.client(&config()).send(&message("x"), &caller()).await.unwrap();
    let (steps, outcome) = told(run).await;
    assert_eq!(outcome.state, State::Completed);
    assert_eq!(steps, ["`The begin`", "`a piece`"]);
    let expected = ["message/stream", "tasks/get", "tasks/resubscribe", "tasks/get"];
    assert_eq!(agent.methods(), expected);
}

#[tokio::test]
async fn a_silent_stream_is_no_failure() {
    let gets = AtomicUsize::new(0);
    let agent = Agent::v03(move |seen| match seen.method.as_str() {
        "message/stream" => Reply::events(&[status("submitted")]).then(Piece::Hang),
        "tasks/resubscribe" => Reply::sse("").then(Piece::Hang),
        _ if gets.fetch_add(1, Ordering::SeqCst) < 2 => Reply::result(task("working")),
        _ => Reply::result(done("at last")),
    })
    .await;
    let run = client(&agent.url, &config(), impatient()).send(&message("x"), &caller()).await;
    let (steps, outcome) = told(run.unwrap()).await;
    assert_eq!((outcome.state, outcome.answer.text.as_str()), (State::Completed, "at last"));
    assert!(steps.contains(&"quiet".to_owned()), "{steps:?}");
    let sent = agent.methods().iter().filter(|method| *method == "message/stream").count();
    assert_eq!(sent, 1);
}

#[tokio::test]
async fn pings_are_signs_of_life_but_no_news() {
    let pings = ": ping\r\n\r\n".repeat(20);
    let agent = Agent::v03(move |_| {
        let begin = Reply::events(&[status("submitted")]);
        begin
            .then(Piece::Bytes(pings.clone().into()))
            .then(Piece::Bytes(format!("data: {}\n\n", json!({"result": done("pong")})).into()))
    })
    .await;
    let run = agent.client(&config()).send(&message("x"), &caller()).await.unwrap();
    assert_eq!(ended(run).await.answer.text, "pong");
    assert_eq!(agent.methods(), ["message/stream"]);
}

#[tokio::test]
async fn a_task_that_ends_without_its_stream_is_noticed() {
    let agent = Agent::v03(move |seen| match seen.method.as_str() {
        "message/stream" => Reply::events(&[status("submitted")]).then(Piece::Hang),
        _ => Reply::result(task("canceled")),
    })
    .await;
    // Far longer than a test: only the cancelling itself can end the run.
    let patience = Patience { idle: Duration::from_secs(600), ..quick() };
    let client = client(&agent.url, &config(), patience);
    let run = client.send(&message("x"), &caller()).await.unwrap();
    assert_eq!(client.cancel("t-1", &caller()).await, Ok(Cancel::Cancelled));
    assert_eq!(ended(run).await.state, State::Canceled);
}

#[tokio::test]
async fn what_was_heard_in_pieces_is_believed_more_than_a_task_that_stores_them_twice() {
    let piece = |text: &str| {
        let mut piece = artifact(text);
        piece["append"] = json!(true);
        piece
    };
    let gets = AtomicUsize::new(0);
    let agent = Agent::v03(move |seen| match seen.method.as_str() {
        "message/stream" => Reply::events(&[status("submitted"), artifact("before, ")]),
        "tasks/resubscribe" => Reply::events(&[piece("af"), piece("ter"), status("completed")]),
        _ if gets.fetch_add(1, Ordering::SeqCst) == 0 => {
            let mut task = done("before, ");
            task["status"]["state"] = json!("working");
            Reply::result(task)
        }
        _ => Reply::result(done("before, afafterter")),
    })
    .await;
    let run = agent.client(&config()).send(&message("x"), &caller()).await.unwrap();
    assert_eq!(ended(run).await.answer.text, "before, after");
    assert_eq!(agent.methods().len(), 4);
}

#[tokio::test]
async fn an_error_in_mid_stream_says_nothing_about_the_task() {
    let agent = Agent::v03(|seen| match seen.method.as_str() {
        "message/stream" => Reply::events(&[status("submitted")]).then(Piece::Bytes(
            b"event: error\r\ndata: {\"error\":{\"code\":-32603,\"message\":\"oops\"}}\r\n\r\n"
                .into(),
        )),
        _ => Reply::result(done("fine")),
    })
    .await;
    let run = agent.client(&config()).send(&message("x"), &caller()).await.unwrap();
    let outcome = ended(run).await;
    assert_eq!((outcome.state, outcome.answer.text.as_str()), (State::Completed, "fine"));
    assert_eq!(agent.methods(), ["message/stream", "tasks/get"]);
}

#[tokio::test]
async fn an_agent_that_cannot_be_listened_to_again_is_polled() {
    let gets = AtomicUsize::new(0);
    let agent = Agent::v03(move |seen| match seen.method.as_str() {
        "message/stream" => Reply::events(&[status("submitted")]),
        "tasks/resubscribe" => Reply::error(-32601, "Method not found"),
        _ if gets.fetch_add(1, Ordering::SeqCst) < 3 => Reply::result(task("working")),
        _ => Reply::result(done("pong")),
    })
    .await;
    let run = agent.client(&config()).send(&message("x"), &caller()).await.unwrap();
    let (steps, outcome) = told(run).await;
    assert_eq!(outcome.answer.text, "pong");
    assert_eq!(steps, ["quiet"; 3]);
    let get = "tasks/get";
    let expected = ["message/stream", get, "tasks/resubscribe", get, get, get];
    assert_eq!(agent.methods(), expected);
}

#[tokio::test]
async fn patience_ends_but_the_task_may_go_on() {
    let agent = Agent::v03(|seen| match seen.method.as_str() {
        "message/stream" => Reply::events(&[status("submitted"), artifact("so far")]),
        "tasks/resubscribe" => Reply::error(-32004, "no"),
        _ => {
            let mut same = done("so far");
            same["status"]["state"] = json!("working");
            Reply::result(same)
        }
    })
    .await;
    let patience = Patience { silence: Duration::from_millis(50), ..quick() };
    let client = client(&agent.url, &config(), patience);
    let outcome = ended(client.send(&message("x"), &caller()).await.unwrap()).await;
    assert_eq!((&outcome.state, outcome.answer.text.as_str()), (&State::StillRunning, "so far"));
    assert_eq!(outcome.task_id.as_deref(), Some("t-1"));
    let cancels = agent.methods().iter().filter(|method| *method == "tasks/cancel").count();
    assert_eq!(cancels, 0);
}

#[tokio::test]
async fn trouble_while_polling_is_waited_out() {
    let gets = AtomicUsize::new(0);
    let agent = Agent::v03(move |seen| match seen.method.as_str() {
        "tasks/resubscribe" => Reply::error(-32004, "no"),
        _ => match gets.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => Reply::new(503, "text/plain", "restarting"),
            2 => Reply::error(-32001, "not yet"),
            3 => Reply::sse("").then(Piece::Break),
            _ => Reply::result(done("pong")),
        },
    })
    .await;
    let outcome = ended(agent.client(&config()).resume("t-1", &caller())).await;
    assert_eq!((outcome.state, outcome.answer.text.as_str()), (State::Completed, "pong"));
}

#[tokio::test]
async fn a_task_that_stays_unknown_is_lost() {
    let agent = Agent::v03(|_| Reply::error(-32001, "Task not found")).await;
    let client = agent.client(&config());
    let outcome = ended(client.resume("t-1", &caller())).await;
    assert_eq!(outcome.state, State::Lost(Error::UnknownTask));
    assert_eq!(agent.methods(), ["tasks/get"; 3]);
    assert_eq!(client.task("t-1", &caller()).await, Err(Error::UnknownTask));
    assert_eq!(client.cancel("t-1", &caller()).await, Err(Error::UnknownTask));
}

#[tokio::test]
async fn a_run_that_is_dropped_leaves_the_task_alone() {
    let agent = Agent::v03(|seen| match seen.method.as_str() {
        "message/stream" => Reply::events(&[status("submitted")]).then(Piece::Hang),
        _ => Reply::result(done("pong")),
    })
    .await;
    let client = agent.client(&config());
    let mut run = client.send(&message("x"), &caller()).await.unwrap();
    assert_eq!(run.next().await, Some(Update::Task { id: "t-1".into() }));
    drop(run);
    let outcome = ended(client.resume("t-1", &caller())).await;
    assert_eq!(outcome.answer.text, "pong");
    assert_eq!(agent.methods(), ["message/stream", "tasks/get"]);
}

#[tokio::test]
async fn an_agent_that_does_not_stream_is_polled() {
    let agent = Agent::v03(in_turn(vec![
        Reply::error(-32004, "Streaming is not supported by the agent"),
        Reply::result(task("submitted")),
        Reply::result(task("working")),
        Reply::result(done("pong")),
    ]))
    .await;
    let (steps, outcome) =
        told(agent.client(&config()).send(&message("x"), &caller()).await.unwrap()).await;
    assert_eq!(outcome.answer.text, "pong");
    assert_eq!(steps, ["`pong`"; 0], "polling a working agent is nothing to tell");
    assert_eq!(agent.methods(), ["message/stream", "message/send", "tasks/get", "tasks/get"]);
    assert_eq!(agent.asked()[1].params["configuration"]["blocking"], json!(false));
}

#[tokio::test]
async fn a_paused_task_may_be_shown_as_it_was_before_the_decision() {
    let agent = Agent::v03(|seen| match seen.method.as_str() {
        "message/stream" => {
            Reply::events(&[task("input-required"), status("working"), status("completed")])
        }
        _ => panic!("{seen:?}"),
    })
    .await;
    let mut reply = message("yes");
    reply.task_id = Some("t-1".into());
    let run = agent.client(&config()).send(&reply, &caller()).await.unwrap();
    assert_eq!(run.task_id(), Some("t-1"));
    assert_eq!(ended(run).await.state, State::Completed);
    // A new task that asks at once does ask.
    let run = agent.client(&config()).send(&message("x"), &caller()).await.unwrap();
    assert_eq!(ended(run).await.state, State::InputRequired(Pause::Text(String::new())));
}
