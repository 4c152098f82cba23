mod inbound;

use serde_json::json;

use super::*;
use crate::model::{ChannelKind, Disposition, Scope};
use crate::platform::scripted::{self, CANARY, Reply, Scripted, hi, send, step};

const CHANNEL: &str = "discord:100000000000000001";

fn discord(world: &Scripted) -> Discord {
    let config = Config {
        bot_token: Some(CANARY.into()),
        api_url: Some(world.url.clone()),
        ..Config::default()
    };
    Discord::new(&config, scripted::client()).unwrap()
}

async fn deliver(discord: &Discord, placement: &Placement, step: &Step) -> Result<Sent, Failure> {
    let route = scripted::route(CHANNEL);
    discord.deliver(&route, placement, step).await
}

async fn fails(answer: Reply) -> Failure {
    let world = Scripted::always(answer).await;
    let result = deliver(&discord(&world), &Placement::default(), &send()).await;
    scripted::failure(PlatformKind::Discord, result)
}

fn reply_to(id: &str) -> Placement {
    Placement { reply_to: Some(id.to_owned()), ..Placement::default() }
}

/// A server with one channel, where everything is allowed.
async fn server() -> Scripted {
    Scripted::new(|seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("GET", "/api/channels/100000000000000001") => Reply::json(
            200,
            json!({"id": "100000000000000001", "type": 0, "guild_id": "900", "name": "general", "parent_id": "800"}),
        ),
        ("DELETE", _) => Reply::text(204, ""),
        ("POST", path) if path.ends_with("/threads") => {
            let parent = "100000000000000001";
            Reply::json(201, json!({"id": "555", "type": 11, "parent_id": parent, "guild_id": "900"}))
        }
        ("POST" | "PATCH", _) => Reply::json(200, json!({"id": "555", "nonce": 1, "flags": "?"})),
        _ => Reply::json(404, json!({"code": 10003, "message": "Unknown Channel"})),
    })
    .await
}

#[tokio::test]
async fn a_message_pings_nobody_previews_nothing_and_can_be_repeated() {
    let world = server().await;
    let sent = deliver(&discord(&world), &Placement::default(), &send()).await.unwrap();
    assert_eq!(sent.id, "555");

    let asked = world.asked("/messages");
    assert_eq!(asked[0].path, "/api/channels/100000000000000001/messages");
    assert_eq!(asked[0].header("authorization"), format!("Bot {CANARY}"));
    assert!(asked[0].header("user-agent").starts_with("DiscordBot ("));
    assert_eq!(
        asked[0].json(),
        json!({
            "content": "**hi**",
            "allowed_mentions": {"parse": []},
            "flags": 4,
            "nonce": "nonce-1",
            "enforce_nonce": true,
        })
    );
}

#[tokio::test]
async fn a_silent_reply_refers_to_its_message_and_survives_its_deletion() {
    let world = server().await;
    let placement =
        Placement { reply_to: Some("444".to_owned()), silent: true, ..Placement::default() };
    let discord = discord(&world);
    deliver(&discord, &placement, &send()).await.unwrap();
    let body = world.asked("/messages")[0].json();
    assert_eq!(body["flags"], 4 | 4096);
    assert_eq!(
        body["message_reference"],
        json!({"message_id": "444", "fail_if_not_exists": false})
    );
}

#[tokio::test]
async fn a_thread_is_opened_from_a_message_and_then_a_channel_of_its_own() {
    let world = server().await;
    let discord = discord(&world);
    let first = reply_to("555");
    let open = step(Action::OpenThread { name: "é".repeat(101) });
    assert_eq!(deliver(&discord, &first, &open).await.unwrap().id, "555");
    let asked = world.asked("/api/channels/100000000000000001/messages/555/threads");
    assert_eq!(asked[0].json(), json!({"name": "é".repeat(100)}));

    let thread = discord.thread_of("555");
    let sent = deliver(&discord, &thread, &send()).await.unwrap();
    assert_eq!(sent.permalink.unwrap(), "https://discord.com/channels/900/555/555");
    assert_eq!(world.asked("/api/channels/555/messages").len(), 1);
    assert_eq!(world.asked("/api/channels/555").len(), 0);

    let none = deliver(&discord, &Placement::default(), &open).await;
    assert_eq!(none.unwrap_err().reason, Reason::Internal);
}

/// A thread is a channel: a route to one channel must not reach the threads of another.
#[tokio::test]
async fn a_thread_is_written_to_only_if_it_is_the_channels_own() {
    for (kind, parent, allowed) in [
        (11, "100000000000000001", true),
        (11, "100000000000000002", false),
        (0, "100000000000000001", false),
    ] {
        let world = Scripted::new(move |seen| match seen.method.as_str() {
            "GET" => Reply::json(
                200,
                json!({"id": "777", "type": kind, "parent_id": parent, "guild_id": "900"}),
            ),
            _ => Reply::json(200, json!({"id": "888"})),
        })
        .await;
        let discord = discord(&world);
        let message_id = "888".to_owned();
        for step in [
            send(),
            step(Action::Edit { message_id: message_id.clone(), part: hi(), thread: None }),
            step(Action::Delete { message_id, thread: None }),
        ] {
            let result = deliver(&discord, &discord.thread_of("777"), &step).await;
            assert_eq!(result.is_ok(), allowed, "{kind} {parent} {result:?}");
            assert!(allowed || result.unwrap_err().reason == Reason::Denied);
        }
        assert_eq!(world.asked("/channels/777").len(), 1, "asked once");
        assert_eq!(world.asked("/messages").len(), usize::from(allowed));
    }
}

#[tokio::test]
async fn a_thread_that_could_not_be_asked_about_was_certainly_not_written_to() {
    let world = Scripted::always(Reply::text(500, scripted::hostile())).await;
    let discord = discord(&world);
    let result = deliver(&discord, &discord.thread_of("777"), &send()).await;
    let failure = scripted::failure(PlatformKind::Discord, result);
    assert!(matches!(failure.disposition, Disposition::Retry { .. }));
    assert_eq!(world.asked("/messages").len(), 0);
}

#[tokio::test]
async fn a_thread_that_is_open_already_is_a_success_and_a_missing_permission_a_failure() {
    let open = step(Action::OpenThread { name: "incident".to_owned() });
    let world = Scripted::always(Reply::json(400, json!({"code": 160_004}))).await;
    let first = reply_to("555");
    let opened = deliver(&discord(&world), &first, &open).await;
    assert_eq!(opened.unwrap().id, "555");

    let world = Scripted::always(Reply::json(403, json!({"code": 50_013}))).await;
    let result = deliver(&discord(&world), &first, &open).await;
    let failure = scripted::failure(PlatformKind::Discord, result);
    assert_eq!(failure.reason, Reason::MissingPermission);
    assert_eq!(failure.disposition, Disposition::GiveUp);
    assert!(failure.hint.contains("Create Public Threads"), "{failure}");
}

#[tokio::test]
async fn a_message_is_edited_without_reviving_mentions_and_deleted() {
    let world = server().await;
    let discord = discord(&world);
    let message_id = "555".to_owned();
    let edit = step(Action::Edit { message_id: message_id.clone(), part: hi(), thread: None });
    deliver(&discord, &Placement::default(), &edit).await.unwrap();
    let delete = step(Action::Delete { message_id, thread: None });
    deliver(&discord, &Placement::default(), &delete).await.unwrap();
    let asked = world.asked("/api/channels/100000000000000001/messages/555");
    assert_eq!(asked[0].method, "PATCH");
    assert_eq!(
        asked[0].json(),
        json!({"content": "**hi**", "allowed_mentions": {"parse": []}, "flags": 4, "components": []})
    );
    assert_eq!((asked[1].method.as_str(), asked[1].body.as_str()), ("DELETE", ""));
}

/// The nonce is known, its message is gone: it was delivered. For an edit the same code is a failure, for a deletion the goal.
#[tokio::test]
async fn unknown_message_means_delivered_edited_in_vain_or_deleted() {
    let world = Scripted::always(Reply::json(404, json!({"code": 10_008}))).await;
    let discord = discord(&world);
    let here = Placement::default();
    assert_eq!(deliver(&discord, &here, &send()).await.unwrap(), Sent::default());
    let message_id = "555".to_owned();
    let delete = step(Action::Delete { message_id: message_id.clone(), thread: None });
    assert!(deliver(&discord, &here, &delete).await.is_ok());
    let edit = step(Action::Edit { message_id, part: hi(), thread: None });
    let failure = scripted::failure(PlatformKind::Discord, deliver(&discord, &here, &edit).await);
    assert_eq!(failure.reason, Reason::MessageNotFound);
}

#[tokio::test]
async fn a_permalink_comes_once_the_server_is_known_and_costs_one_request() {
    let world = server().await;
    let discord = discord(&world);
    discord.describe(&CHANNEL.parse().unwrap()).await.unwrap();
    for _ in 0..2 {
        let sent = deliver(&discord, &Placement::default(), &send()).await;
        assert_eq!(
            sent.unwrap().permalink.unwrap(),
            "https://discord.com/channels/900/100000000000000001/555"
        );
    }
    let path = "/api/channels/100000000000000001";
    assert_eq!(world.asked(path).len(), 1);
}

#[rustfmt::skip]
const REFUSALS: &[(Reason, bool, u16, &[u32])] = &[
    (Reason::Auth, false, 401, &[0, 40_001, 50_014]),
    (Reason::Auth, false, 403, &[40_001, 40_002, 50_014]),
    (Reason::ChannelNotFound, false, 404, &[10_003, 10_004]),
    (Reason::NotInChannel, false, 403, &[50_001]),
    (Reason::MissingPermission, false, 403, &[50_013, 50_007, 50_278, 123_456, 0]),
    (Reason::Rejected, false, 400, &[50_008, 50_006, 200_000, 240_000, 123_456, 0, 50_035, 50_024]),
    (Reason::Rejected, false, 403, &[200_000, 240_000]),
    (Reason::ChannelArchived, false, 400, &[50_083]),
    (Reason::TooLong, false, 413, &[40_005, 0]),
    (Reason::RateLimited, true, 400, &[20_016, 20_028, 20_029, 40_003, 40_062]),
    (Reason::RateLimited, true, 429, &[20_016, 20_028, 20_029, 40_003, 40_062, 0]),
    (Reason::Timeout, true, 408, &[0]),
    (Reason::ServerError, true, 400, &[130_000]),
];

#[tokio::test]
async fn every_code_is_classified() {
    for (reason, again, status, codes) in REFUSALS {
        for code in *codes {
            let answer = json!({"code": code, "message": scripted::hostile()});
            let failure = fails(Reply::json(*status, answer)).await;
            assert_eq!(failure.reason, *reason, "{status} {code}");
            let retry = matches!(failure.disposition, Disposition::Retry { .. });
            assert_eq!(retry, *again, "{status} {code}");
            assert_ne!(failure.disposition, Disposition::Ambiguous);
        }
    }
}

#[tokio::test]
async fn a_rate_limit_is_honoured_in_full_for_the_channel_or_for_the_bot() {
    let body = |global| json!({"message": "slow", "retry_after": 64.57, "global": global});
    let cloudflare = Reply::text(429, scripted::hostile()).with("retry-after", "600");
    for (answer, after, scope) in [
        (Reply::json(429, body(false)).with("x-ratelimit-scope", "user"), 64.57, Scope::Channel),
        (Reply::json(429, body(false)).with("x-ratelimit-scope", "shared"), 64.57, Scope::Channel),
        (
            Reply::json(429, body(false)).with("x-ratelimit-scope", "global"),
            64.57,
            Scope::Credential,
        ),
        (Reply::json(429, body(true)), 64.57, Scope::Credential),
        (cloudflare, 600.0, Scope::Credential),
    ] {
        let failure = fails(answer).await;
        assert_eq!(failure.reason, Reason::RateLimited);
        let after = Some(Duration::from_secs_f64(after));
        assert_eq!(failure.disposition, Disposition::Retry { after, scope });
    }
}

#[tokio::test]
async fn a_refused_field_is_named_by_plain_words_alone() {
    let invalid = |errors| Reply::json(400, json!({"code": 50_035, "errors": errors}));
    let code = |code: &str| json!({"_errors": [{"code": code, "message": scripted::hostile()}]});

    let failure = fails(invalid(json!({"content": code("BASE_TYPE_MAX_LENGTH")}))).await;
    assert_eq!(failure.reason, Reason::TooLong);
    assert!(failure.hint.contains("`content` too long"), "{failure}");

    let nested = json!({"message_reference": {"message_id": code("NUMBER_TYPE_COERCE")}});
    let failure = fails(invalid(nested)).await;
    assert_eq!(failure.reason, Reason::Rejected);
    assert!(failure.hint.ends_with("message_id: NUMBER_TYPE_COERCE"), "{failure}");

    for errors in [
        json!({"content": code(&scripted::hostile())}),
        json!({scripted::hostile(): code("X")}),
        json!([scripted::hostile()]),
    ] {
        let failure = fails(invalid(errors)).await;
        assert_eq!(failure.hint, "Discord did not understand the message");
    }
}

#[tokio::test]
async fn an_answer_that_proves_nothing_is_ambiguous() {
    for (answer, reason) in [
        (Reply::text(200, scripted::hostile()), Reason::InvalidAnswer),
        (Reply::json(200, json!({})), Reason::InvalidAnswer),
        (Reply::text(500, scripted::hostile()), Reason::ServerError),
        (Reply::json(503, json!({"code": 10_003})), Reason::ServerError),
    ] {
        let failure = fails(answer).await;
        assert_eq!(failure.reason, reason);
        assert_eq!(failure.disposition, Disposition::Ambiguous);
    }
}

#[tokio::test]
async fn an_answer_of_somebody_in_between_is_final() {
    for (status, reason) in
        [(302, Reason::InvalidAnswer), (403, Reason::MissingPermission), (404, Reason::Rejected)]
    {
        let failure = fails(Reply::text(status, scripted::hostile())).await;
        assert_eq!(failure.reason, reason, "{status}");
        assert_eq!(failure.disposition, Disposition::GiveUp, "{status}");
    }
}

async fn described(status: u16, answer: Value) -> ChannelInfo {
    let world = Scripted::always(Reply::json(status, answer)).await;
    let channel = CHANNEL.parse().unwrap();
    discord(&world).describe(&channel).await.unwrap()
}

#[tokio::test]
async fn a_channel_is_described() {
    for (kind, expected, can_post) in [
        (0, ChannelKind::Public, true),
        (1, ChannelKind::Direct, true),
        (4, ChannelKind::Unknown, false),
        (5, ChannelKind::Broadcast, true),
        (11, ChannelKind::Thread, true),
        (15, ChannelKind::Forum, false),
        (99, ChannelKind::Unknown, false),
    ] {
        let answer = json!({"id": "100000000000000001", "type": kind, "name": "x"});
        let info = described(200, answer).await;
        assert_eq!((info.kind, info.can_post), (expected, can_post), "{kind}");
        assert_eq!(info.note.is_none(), can_post, "{kind}");
    }
    let locked = json!({"id": "1", "type": 11, "thread_metadata": {"locked": true}});
    assert!(!described(200, locked).await.can_post);
    for code in [10_003, 50_001] {
        let info = described(403, json!({"code": code})).await;
        assert!(!info.can_post && info.note.is_some(), "{info:?}");
    }
}

#[tokio::test]
async fn a_bad_token_is_a_failure_of_describing() {
    let world = Scripted::always(Reply::json(401, json!({"code": 0}))).await;
    let result = discord(&world).describe(&CHANNEL.parse().unwrap()).await;
    let failure = scripted::failure(PlatformKind::Discord, result);
    assert_eq!(failure.reason, Reason::Auth);
}

#[tokio::test]
async fn a_thread_has_a_parent_and_a_channel_only_a_category() {
    let parent = "200000000000000002";
    for (kind, expected) in [(0, None), (10, Some(parent)), (11, Some(parent)), (12, Some(parent))]
    {
        let answer = json!({"id": "100000000000000001", "type": kind, "parent_id": parent});
        let world = Scripted::always(Reply::json(200, answer)).await;
        let discord = discord(&world);
        for _ in 0..2 {
            let found = discord.parent(&CHANNEL.parse().unwrap()).await.unwrap();
            assert_eq!(found.as_ref().map(ChannelId::id), expected);
        }
        // Whoever asks remembers: what others taught us makes no answer quicker.
        assert_eq!(world.asked("/channels/100000000000000001").len(), 2);
    }
}

#[tokio::test]
async fn channels_are_listed_server_by_server() {
    let world = Scripted::new(|seen| match seen.path.as_str() {
        "/api/users/@me/guilds?limit=200&after=0" => {
            Reply::json(200, json!([{"id": "900", "name": "Acme"}, {"id": "901", "name": "Lab"}]))
        }
        "/api/guilds/900/channels" => Reply::json(
            200,
            json!([{"id": "1", "type": 0, "name": "general"}, {"id": "2", "type": 4, "name": "Text"}]),
        ),
        "/api/guilds/901/channels" => {
            Reply::json(200, json!([{"id": "3", "type": 5, "name": "news"}]))
        }
        other => panic!("{other}"),
    })
    .await;
    let list = discord(&world).list().await.unwrap();
    let list: Vec<_> = list.iter().map(|c| (c.id.as_str(), c.name.as_deref().unwrap())).collect();
    assert_eq!(list, [("1", "Acme / general"), ("3", "Lab / news")]);
}

#[tokio::test]
async fn a_probe_tells_who_we_are() {
    let me = json!({"id": "77", "username": "herald", "bot": true});
    let world = Scripted::always(Reply::json(200, me)).await;
    let me = discord(&world).probe().await.unwrap();
    assert_eq!((me.id.as_str(), me.name.as_str()), ("77", "herald"));
    assert_eq!(world.asked("/api/users/@me").len(), 1);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_worth_a_retry() {
    let config = Config {
        bot_token: Some(CANARY.into()),
        api_url: Some("http://127.0.0.1:9/api".parse().unwrap()),
        ..Config::default()
    };
    let discord = Discord::new(&config, scripted::client()).unwrap();
    let result = deliver(&discord, &Placement::default(), &send()).await;
    let failure = scripted::failure(PlatformKind::Discord, result);
    assert_eq!(failure.reason, Reason::Unreachable);
    assert!(!format!("{discord:?}").contains("canary"));
}

#[test]
fn without_a_token_discord_is_off_and_with_one_it_needs_no_url() {
    let http = scripted::client();
    assert!(Discord::new(&Config::default(), http.clone()).is_none());
    let config = Config { bot_token: Some(CANARY.into()), ..Config::default() };
    assert!(Discord::new(&config, http).is_some());
}

#[tokio::test]
async fn a_malformed_reply_is_named_as_the_tool_names_it() {
    let world = server().await;
    let discord = discord(&world);
    assert_eq!(discord.check(&reply_to("112233445566778899")), Ok(()));
    for id in ["", "-1", "12a", "../../users/@me", "123456789012345678901"] {
        let error = discord.check(&reply_to(id)).unwrap_err();
        assert!(error.contains("`reply_to`"), "{error}");
        assert!(discord.check(&discord.thread_of(id)).is_err());
    }
}
