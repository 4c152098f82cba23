//! Whatever the bot shows, and whichever way that takes, has passed the guard.

use herald::sandbox::{Message, Speech};

use crate::facts::of;
use crate::talking::{Bot, PLACES, Talk};
use crate::world::{DISCORD, Workspace, until};

const HERE: usize = 1;

/// Made up, as random as a real one.
fn token() -> String {
    format!("ghp_{}", "16C7e42F292c6912E7710c838347Ae178B4a")
}

/// Asks by Discord's command.
fn asks(workspace: &Workspace, author: &str, text: &str) {
    let speech = Speech {
        channel: DISCORD.to_owned(),
        text: format!("/ask {text}"),
        author: Some(author.to_owned()),
        ..Speech::default()
    };
    assert!(workspace.world.speak(&speech).unwrap().is_none(), "it is a command");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_ask_by_a_command_is_shown_in_the_bots_name_only_guarded() {
    let workspace = Workspace::open().await;
    let bot = Bot::start(&workspace, &[]).await;
    until("the commands are known", async || {
        let requests = workspace.world.requests();
        requests.iter().any(|it| it.method == "put_commands" && it.outcome == "ok")
    })
    .await;
    let link = "[https://bank.example](https://evil.example)";
    asks(&workspace, "alice", &format!("what is\n{} @everyone <@&42> {link}", token()));
    let talk = Talk::new(&workspace, PLACES[HERE]);
    let shown = talk.sees("asks:\n\n> what is").await;
    assert_eq!((&shown.only_for, shown.text.contains("**alice**")), (&None, true), "{shown:?}");
    assert!(shown.text.contains("redacted:"), "{}", shown.text);
    assert!(shown.text.contains("`https://bank.example` ([evil.example]"), "{}", shown.text);
    talk.sees("You said: what is").await;
    // While that turn goes on or later: each question stands there once.
    asks(&workspace, "bob", "and what else?");
    talk.sees("You said: and what else?").await;

    let public = |message: &Message| message.only_for.is_none();
    let all: Vec<Message> = talk.shown().into_iter().filter(public).collect();
    let asked =
        |who: &str| all.iter().filter(|it| it.text.contains(&format!("**{who}** asks:"))).count();
    assert_eq!((asked("alice"), asked("bob")), (1, 1), "{all:?}");
    for message in talk.shown() {
        assert!(!message.text.contains(&token()), "{}", message.text);
        assert!(message.pings.is_empty() && !message.pinged_everyone, "{message:?}");
    }
    let question = &of(bot.data(), "submitted").await[0];
    let redacted = of(bot.data(), "redacted").await;
    assert_eq!(redacted[0]["delivery"], question["delivery"], "{redacted:?}");
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_leaves_as_a_file_is_guarded_like_one_that_is_shown() {
    let workspace = Workspace::open().await;
    let bot = Bot::start(&workspace, &[]).await;
    let mut talk = Talk::new(&workspace, PLACES[HERE]);
    // Narrow to write, and wide where Discord shows it.
    let wide = format!("|{}\n|{}\n", format!("{}|", "w".repeat(40)).repeat(6), "-|".repeat(6));
    let rows = "|a|b|c|d|e|f|\n".repeat(300);
    let text = format!(
        "[https://bank.example](https://evil.example/in) \u{202e}exe.a\u{200b}dmin\u{e0041} 5 < 7 & {} \
         @everyone\n\n{wide}{rows}",
        token()
    );
    talk.says(&text);
    let attached = || talk.shown().into_iter().find_map(|message| message.files.first().cloned());
    until("it is attached", async || attached().is_some()).await;
    let file = attached().unwrap();
    assert_eq!((file.name.as_str(), file.mime.as_str()), ("answer.md", "text/markdown"));
    let file = String::from_utf8(file.bytes).unwrap();
    let words = "You said: `https://bank.example` ([evil.example](https://evil.example/in)) exe.admin 5 \\< 7 \\& ";
    assert!(file.starts_with(words), "{file}");
    assert!(file.contains("redacted:") && !file.contains(&token()), "{file}");
    assert!(!file.contains("@everyone") && !file.contains(['\u{202e}', '\u{e0041}']), "{file}");
    assert_eq!(file.matches("| a | b | c | d | e | f |").count(), 300, "nothing is lost: {file}");
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_back_while_a_turn_goes_on_is_written_down() {
    let workspace = Workspace::open().await;
    let bot = Bot::start(&workspace, &[("HERALD_TOKEN", "k8s_get_pods")]).await;
    let mut talk = Talk::new(&workspace, PLACES[HERE]);
    talk.says("slow 60");
    until("it is written down", async || !of(bot.data(), "denied").await.is_empty()).await;
    let denied = of(bot.data(), "denied").await;
    let line = &denied[0];
    assert_eq!((line["reason"].as_str(), line["client"].as_str()), (Some("guard"), Some("bot")));
    assert_eq!(line["filtered"][0]["rule"], "own-secret", "{line}");
    assert_eq!(line["channel"], DISCORD);
    assert!(of(bot.data(), "turn_ended").await.is_empty(), "the turn goes on");
    assert!(!talk.texts().iter().any(|text| text.contains("k8s_get_pods")), "{:?}", talk.texts());
    bot.stop().await;
}
