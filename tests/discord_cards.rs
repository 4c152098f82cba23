//! Cards, files, signals and attachments on Discord, at the sandbox.

use std::sync::Arc;

use herald::model::{
    Action, Attachment, Button, ButtonStyle, CardPart, ChannelId, ClientName, FilePart, Part,
    Placement, Reason, Step, TextPart,
};
use herald::platform::discord::Discord;
use herald::platform::http::{HttpClient, Settings};
use herald::platform::{Platform, Sent, Signal};
use herald::policy::{AllowList, Policy, Route};
use herald::sandbox::Speech;

use crate::world::{DISCORD, Workspace};

fn discord(workspace: &Workspace) -> Arc<dyn Platform> {
    let settings = Settings { proxy_from_environment: false, ..Settings::default() };
    let http = HttpClient::new(&settings).unwrap();
    Arc::new(Discord::new(&workspace.config(&[]).discord, http).unwrap())
}

fn route() -> Route {
    let channel: ChannelId = DISCORD.parse().unwrap();
    let list = AllowList::parse(channel.platform(), [channel.id()]).unwrap();
    let policy = Policy::new([(channel.platform(), list)].into());
    policy.authorize(&ClientName::new("default"), &channel).unwrap()
}

fn text(body: &str) -> TextPart {
    TextPart::new(body, body)
}

fn card() -> Part {
    let button = |key: &str, label: &str, style| Button {
        key: key.to_owned(),
        label: label.to_owned(),
        style,
    };
    Part::Card(CardPart {
        text: text("delete the pod?"),
        rows: vec![
            vec![
                button("yes-1", "Approve", ButtonStyle::Good),
                button("no-1", "Reject", ButtonStyle::Danger),
            ],
            vec![button("more-1", "Show", ButtonStyle::Plain)],
        ],
    })
}

async fn send(discord: &Arc<dyn Platform>, nonce: &str, action: Action) -> Sent {
    let step = Step { nonce: nonce.to_owned(), action };
    discord.deliver(&route(), &Placement::default(), &step).await.unwrap()
}

#[tokio::test]
async fn a_card_has_buttons_until_it_is_edited_into_text() {
    let workspace = Workspace::open().await;
    let discord = discord(&workspace);
    let sent = send(&discord, "n1", Action::Send { part: card() }).await;
    let again = send(&discord, "n1", Action::Send { part: card() }).await;
    assert_eq!(sent.id, again.id, "a card that is repeated is the same card");
    let seen = || workspace.world.messages(DISCORD).remove(0);
    let buttons = |row: usize| -> Vec<(String, String, &str)> {
        let row = seen().buttons[row].clone();
        row.into_iter().map(|b| (b.key, b.label, b.style)).collect()
    };
    let like = |key: &str, label: &str, style| (key.to_owned(), label.to_owned(), style);
    assert_eq!(buttons(0), [like("yes-1", "Approve", "good"), like("no-1", "Reject", "danger")]);
    assert_eq!(buttons(1), [like("more-1", "Show", "plain")]);

    let message_id = sent.id.clone();
    let part = Part::Text(text("approved by alice"));
    let signal = Signal::Edit { message_id: message_id.clone(), part: card() };
    discord.signal(&route(), &Placement::default(), &signal).await.unwrap();
    assert_eq!(seen().buttons.len(), 2, "a card stays one");
    send(&discord, "n2", Action::Edit { message_id, part, thread: None }).await;
    assert_eq!((seen().text.as_str(), seen().buttons.len()), ("approved by alice", 0));
}

#[tokio::test]
async fn a_file_is_uploaded_once() {
    let workspace = Workspace::open().await;
    let discord = discord(&workspace);
    let file = Part::File(FilePart {
        name: "pods.txt".to_owned(),
        mime: "text/plain".to_owned(),
        base64: "aGVsbG8=".to_owned(),
        held_to: None,
    });
    let sent = send(&discord, "n1", Action::Send { part: file.clone() }).await;
    assert_eq!(sent.id, send(&discord, "n1", Action::Send { part: file }).await.id);
    let seen = workspace.world.messages(DISCORD);
    assert_eq!(seen.len(), 1);
    let file = &seen[0].files[0];
    assert_eq!((file.name.as_str(), file.mime.as_str()), ("pods.txt", "text/plain"));
    assert_eq!(file.bytes, b"hello");
    assert_eq!(seen[0].payload["allowed_mentions"]["parse"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn typing_is_shown() {
    let workspace = Workspace::open().await;
    let discord = discord(&workspace);
    discord.signal(&route(), &Placement::default(), &Signal::Typing).await.unwrap();
    let asked = workspace.world.requests();
    assert_eq!(asked.last().unwrap().method, "trigger_typing");
}

#[tokio::test]
async fn an_attachment_is_read_up_to_the_cap() {
    let workspace = Workspace::open().await;
    let discord = discord(&workspace);
    let upload = serde_json::from_value(serde_json::json!({
        "name": "a b.txt", "mime": "text/plain", "base64": "aGVsbG8=",
    }));
    let speech = Speech {
        channel: DISCORD.to_owned(),
        text: String::new(),
        files: vec![upload.unwrap()],
        ..Speech::default()
    };
    let said = workspace.world.speak(&speech).unwrap().unwrap();
    let (_, channel) = DISCORD.split_once(':').unwrap();
    let file = |size| Attachment {
        name: "a b.txt".to_owned(),
        mime: "text/plain".to_owned(),
        size,
        source: format!(
            "{}/sandbox/discord/cdn/attachments/{channel}/{}/a+b.txt",
            workspace.base, said.files[0].id
        ),
    };
    assert_eq!(discord.fetch(&file(Some(5)), 5).await.unwrap(), b"hello");
    for size in [None, Some(1), Some(5)] {
        let failure = discord.fetch(&file(size), 4).await.unwrap_err();
        assert_eq!(failure.reason, Reason::TooLong, "{size:?}");
    }
    let gone = Attachment { source: file(None).source.replace("F0", "F1"), ..file(None) };
    assert_eq!(discord.fetch(&gone, 5).await.unwrap_err().reason, Reason::MessageNotFound);
}
