//! Files, up and down.

use super::*;
use crate::model::FilePart;

fn file(name: &str) -> Part {
    Part::File(FilePart {
        name: name.to_owned(),
        mime: "text/plain".to_owned(),
        base64: "aGVsbG8=".to_owned(),
        held_to: None,
    })
}

#[tokio::test]
async fn a_file_goes_up_as_a_document() {
    let world = Scripted::always(posted()).await;
    let placement = Placement {
        thread: Some("5".to_owned()),
        reply_to: Some("6".to_owned()),
        silent: true,
        ..Placement::default()
    };
    let upload = step(Action::Send { part: file("pods.txt") });
    let sent = deliver_to(&telegram(&world), CHAT, &placement, &upload).await.unwrap();
    assert_eq!(sent.id, "7");
    let asked = world.asked("/sendDocument");
    assert!(asked[0].header("content-type").starts_with("multipart/form-data"));
    for piece in [
        "name=\"chat_id\"\r\n\r\n-1001000000001\r\n",
        "name=\"message_thread_id\"\r\n\r\n5\r\n",
        "name=\"disable_notification\"\r\n\r\ntrue\r\n",
        "name=\"reply_parameters\"\r\n\r\n{\"allow_sending_without_reply\":true,\"message_id\":6}\r\n",
        "name=\"document\"; filename=\"pods.txt\"\r\nContent-Type: text/plain\r\n\r\nhello\r\n",
    ] {
        assert!(asked[0].body.contains(piece), "{piece}: {}", asked[0].body);
    }
}

#[tokio::test]
async fn files_that_cannot_go_up_are_given_up() {
    let world = Scripted::always(refused(413, "Request Entity Too Large")).await;
    let telegram = telegram(&world);
    let upload = step(Action::Send { part: file("x\"\r\ny.txt") });
    let failure = scripted::failure(PlatformKind::Telegram, deliver(&telegram, &upload).await);
    assert_eq!(failure.reason, Reason::TooLong);
    let edit = Action::Edit { message_id: "7".to_owned(), part: file("x"), thread: None };
    let failure = scripted::failure(PlatformKind::Telegram, deliver(&telegram, &step(edit)).await);
    assert_eq!(failure.disposition, Disposition::GiveUp);
    for (mime, base64) in [("text/plain", "%"), ("no type", "aGVsbG8=")] {
        let (mime, base64) = (mime.to_owned(), base64.to_owned());
        let part = Part::File(FilePart { name: "x".to_owned(), mime, base64, held_to: None });
        let result = deliver(&telegram, &step(Action::Send { part })).await;
        assert_eq!(scripted::failure(PlatformKind::Telegram, result).reason, Reason::Internal);
    }
    assert_eq!(world.asked("").len(), 1);
}

fn attachment(size: Option<u64>) -> Attachment {
    Attachment {
        name: "a.log".to_owned(),
        mime: "text/plain".to_owned(),
        size,
        source: "BQAC".to_owned(),
    }
}

async fn fetch(
    path: Value,
    size: Option<u64>,
    most: usize,
) -> (Result<Vec<u8>, Failure>, Scripted) {
    let world = Scripted::new(move |seen| match seen.path.ends_with("/getFile") {
        true => {
            assert_eq!(seen.json(), json!({"file_id": "BQAC"}));
            let file = json!({"file_id": "BQAC", "file_path": path, "file_size": size});
            Wire::json(200, json!({"ok": true, "result": file}))
        }
        false if seen.path.contains("gone") => refused(404, "Not Found"),
        false if seen.path.contains("elsewhere") => {
            Wire::text(302, "").with("location", "http://127.0.0.1:9/")
        }
        false => Wire::text(200, "hello"),
    })
    .await;
    let result = telegram(&world).fetch(&attachment(None), most).await;
    (result, world)
}

#[tokio::test]
async fn a_file_comes_down_from_the_same_base() {
    let (bytes, world) = fetch(json!("documents/a b.log"), Some(5), 5).await;
    assert_eq!(bytes.unwrap(), b"hello");
    let asked = world.asked(".log");
    assert_eq!(asked[0].method, "GET");
    assert_eq!(asked[0].path, format!("/api/file/bot{CANARY}/documents/a%20b.log"));
}

#[tokio::test]
async fn files_that_cannot_come_down() {
    for (path, size, most, reason) in [
        (json!("documents/a.log"), Some(6), 5, Reason::TooLong),
        (json!("documents/a.log"), None, 4, Reason::TooLong),
        (json!("documents/gone.log"), None, 5, Reason::MessageNotFound),
        (json!("documents/elsewhere.log"), None, 5, Reason::InvalidAnswer),
        (json!(null), None, 5, Reason::MessageNotFound),
        (json!("/var/lib/telegram-bot-api/a.log"), None, 5, Reason::Rejected),
        (json!("../bot1:x/getMe"), None, 5, Reason::Rejected),
        (json!(5), None, 5, Reason::InvalidAnswer),
    ] {
        let shown = format!("{path}");
        let (result, _world) = fetch(path, size, most).await;
        assert_eq!(scripted::failure(PlatformKind::Telegram, result).reason, reason, "{shown}");
    }
    let world = Scripted::always(refused(400, "Bad Request: file is too big")).await;
    let result = telegram(&world).fetch(&attachment(None), 5).await;
    assert_eq!(scripted::failure(PlatformKind::Telegram, result).reason, Reason::TooLong);
    // What is known to be too large is not asked for.
    let result = telegram(&world).fetch(&attachment(Some(6)), 5).await;
    assert_eq!(scripted::failure(PlatformKind::Telegram, result).reason, Reason::TooLong);
    assert_eq!(world.asked("").len(), 1);
}
