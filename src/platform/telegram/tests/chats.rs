//! What is told about chats.

use serde_json::Value;

use super::*;
use crate::model::ChannelKind;

async fn described(chat: Value, me: Value) -> ChannelInfo {
    let world = Scripted::new(move |seen| {
        let result = if seen.path.ends_with("/getChat") {
            assert_eq!(seen.json(), json!({"chat_id": -1_001_000_000_001_i64}));
            chat.clone()
        } else {
            assert!(seen.path.ends_with("/getChatMember"), "{}", seen.path);
            assert_eq!(seen.json()["user_id"], 4242);
            me.clone()
        };
        Wire::json(200, json!({"ok": true, "result": result}))
    })
    .await;
    let channel = CHAT.parse().unwrap();
    telegram(&world).describe(&channel).await.unwrap()
}

#[tokio::test]
async fn a_chat_is_described_and_whether_the_bot_can_post() {
    let group = json!({"id": -1_001_000_000_001_i64, "type": "supergroup", "title": "Ops"});
    let channel = json!({"id": -1_001_000_000_001_i64, "type": "channel", "title": "News"});
    let closed = json!({"id": -1, "type": "supergroup", "title": "Ops", "permissions": {"can_send_messages": false}});
    for (chat, me, kind, can_post) in [
        (&group, json!({"status": "member"}), ChannelKind::Private, true),
        (&group, json!({"status": "left"}), ChannelKind::Private, false),
        (
            &group,
            json!({"status": "restricted", "can_send_messages": false}),
            ChannelKind::Private,
            false,
        ),
        (&group, json!("nonsense"), ChannelKind::Private, true),
        (&closed, json!({"status": "member"}), ChannelKind::Private, false),
        (&closed, json!("nonsense"), ChannelKind::Private, false),
        (&closed, json!({"status": "administrator"}), ChannelKind::Private, true),
        (&channel, json!({"status": "member"}), ChannelKind::Broadcast, false),
        (
            &channel,
            json!({"status": "administrator", "can_post_messages": false}),
            ChannelKind::Broadcast,
            false,
        ),
        (
            &channel,
            json!({"status": "administrator", "can_post_messages": true}),
            ChannelKind::Broadcast,
            true,
        ),
    ] {
        let shown = format!("{chat} {me}");
        let info = described(chat.clone(), me).await;
        assert_eq!((info.kind, info.can_post), (kind, can_post), "{shown}");
        assert_eq!(info.note.is_none(), can_post, "{shown}");
        assert_eq!(info.name, chat["title"].as_str().map(str::to_owned));
    }
}

#[tokio::test]
async fn an_unknown_chat_is_a_note_and_a_bad_token_a_failure() {
    let channel = CHAT.parse().unwrap();
    let world = Scripted::always(refused(400, "Bad Request: chat not found")).await;
    let info = telegram(&world).describe(&channel).await.unwrap();
    assert!(!info.can_post && info.note.is_some());
    let world = Scripted::always(refused(401, "Unauthorized")).await;
    let result = telegram(&world).describe(&channel).await;
    let failure = scripted::failure(PlatformKind::Telegram, result);
    assert_eq!(failure.reason, Reason::Auth);
}
