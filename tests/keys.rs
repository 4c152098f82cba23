//! The issuer's public keys: changed, gone, and asked for by strangers.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::gate::{Answer, House, NOW, both, claims, trusting, with};
use crate::issuer::{Issuer, Signer};
use crate::world::until;

#[tokio::test]
async fn keys_are_rotated_without_a_restart() {
    let (old, new) = (Signer::curve("old"), Signer::curve("new"));
    let issuer = Issuer::open(&[&old]).await;
    let house = House::open(&trusting(&issuer), &both()).await;
    let lasting = with(claims(), "exp", NOW + 24 * 3600);
    let (with_old, with_new) = (old.token(&lasting), new.token(&lasting));
    house.opens(&with_old).await;
    issuer.show(&[&old, &new]);
    house.shut("a key that appeared just now", &with_new).await;
    house.clock.advance(Duration::from_secs(10));
    house.opens(&with_new).await;
    house.opens(&with_old).await;
    assert_eq!(issuer.asked(), 2);

    issuer.show(&[&new]);
    house.clock.advance(Duration::from_secs(10 * 60));
    house.shut("a key that was taken back", &with_old).await;
    house.opens(&with_new).await;
}

#[tokio::test]
async fn an_issuer_that_is_away_takes_no_key_away_and_stops_nobody() {
    let (key, new) = (Signer::curve("key"), Signer::curve("new"));
    let issuer = Issuer::open(&[&key]).await;
    let house = House::open(&trusting(&issuer), &both()).await;
    let lasting = with(claims(), "exp", NOW + 24 * 3600);
    let token = key.token(&lasting);
    let endless = format!("{{\"keys\": [], \"x\": \"{}\"}}", "x".repeat(256 * 1024));
    issuer.answer(StatusCode::SERVICE_UNAVAILABLE, "");
    house.shut("nothing is known yet", &token).await;
    house.opens("k8s-token").await;

    house.clock.advance(Duration::from_secs(10));
    issuer.show(&[&key]);
    house.opens(&token).await;
    let elsewhere = Issuer::open(&[&new]).await;
    for trouble in ["status", "page", "endless", "redirect"] {
        match trouble {
            "status" => issuer.answer(StatusCode::INTERNAL_SERVER_ERROR, "{\"keys\": []}"),
            "page" => issuer.answer(StatusCode::OK, "<html>"),
            "endless" => issuer.answer(StatusCode::OK, &endless),
            _ => issuer.redirect(&elsewhere.url),
        }
        let before = issuer.asked();
        house.clock.advance(Duration::from_secs(10 * 60));
        house.opens(&token).await;
        house.clock.advance(Duration::from_secs(10));
        house.shut(trouble, &new.token(&lasting)).await;
        assert!(issuer.asked() > before, "{trouble}");
    }
    assert_eq!(elsewhere.asked(), 0, "a redirect is not followed");
}

/// So many at once, with tokens that nobody knows the key of.
fn crowd(many: usize, house: &Arc<House>, unknown: &Signer) -> JoinSet<Answer> {
    let comes = |_| {
        let (house, token) = (Arc::clone(house), unknown.token(&claims()));
        async move { house.send("/mcp", &[("authorization", &format!("Bearer {token}"))]).await }
    };
    (0..many).map(comes).collect()
}

#[tokio::test]
async fn strangers_cannot_make_the_server_ask_for_keys_again_and_again() {
    let (key, unknown) = (Signer::curve("key"), Signer::curve("unknown"));
    let issuer = Issuer::open(&[&key]).await;
    let house = Arc::new(House::open(&trusting(&issuer), &both()).await);
    house.opens(&key.token(&claims())).await;
    house.clock.advance(Duration::from_secs(10));

    // All at once, while the issuer thinks about it.
    let held = issuer.shown.hold.lock().await;
    let mut strangers = crowd(50, &house, &unknown);
    until("the issuer is asked", async || issuer.asked() == 2).await;
    // Who is known does not wait for that.
    house.opens(&key.token(&claims())).await;
    house.opens("k8s-token").await;
    drop(held);
    while let Some(answer) = strangers.join_next().await {
        assert_eq!(answer.unwrap().status, 401);
    }
    for _ in 0..20 {
        house.shut("a stranger's key", &unknown.token(&claims())).await;
    }
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn strangers_who_wait_for_an_issuer_leave_places_for_the_others() {
    let (key, unknown) = (Signer::curve("key"), Signer::curve("unknown"));
    let issuer = Issuer::open(&[&key]).await;
    let house = Arc::new(House::open(&trusting(&issuer), &both()).await);
    house.opens(&key.token(&claims())).await;
    house.clock.advance(Duration::from_secs(10));

    let held = issuer.shown.hold.lock().await;
    let mut strangers = crowd(80, &house, &unknown);
    // Sixty-four wait. The others hear at once when to come again, and of no other token to try.
    for _ in 0..16 {
        let next = timeout(Duration::from_secs(60), strangers.join_next()).await;
        let answer = next.expect("all of them wait").unwrap().unwrap();
        assert_eq!(answer.status, 503, "{}", answer.body);
        assert_eq!((answer.retry_after.as_deref(), answer.challenge), (Some("5"), None));
        assert_eq!(answer.body["error"], "temporarily_unavailable");
    }
    house.opens(&key.token(&claims())).await;
    house.opens("k8s-token").await;
    drop(held);
    while let Some(answer) = strangers.join_next().await {
        assert_eq!(answer.unwrap().status, 401);
    }
}

#[tokio::test]
async fn a_stranger_who_hangs_up_does_not_keep_the_keys_from_coming() {
    let key = Signer::curve("key");
    let issuer = Issuer::open(&[&key]).await;
    let house = Arc::new(House::open(&trusting(&issuer), &both()).await);
    let held = issuer.shown.hold.lock().await;
    let (stranger, token) = (Arc::clone(&house), key.token(&claims()));
    let task = tokio::spawn(async move { stranger.shut("hangs up", &token).await });
    until("the issuer is asked", async || issuer.asked() == 1).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    drop(held);
    house.opens(&key.token(&claims())).await;
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn the_clusters_keys_come_by_its_authority_and_a_token_that_is_read_each_time() {
    let key = Signer::rsa("cluster");
    let issuer = Issuer::with_tls(&[&key]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "first\n").unwrap();
    let mut config = trusting(&issuer);
    config.jwt.token_file = Some(file.path().to_owned());
    let house = House::open(&config, &both()).await;
    let lasting = key.token(&with(claims(), "exp", NOW + 24 * 3600));
    house.opens(&lasting).await;
    assert_eq!(issuer.authorization().as_deref(), Some("Bearer first"));
    std::fs::write(file.path(), "second").unwrap();
    house.clock.advance(Duration::from_secs(10 * 60));
    house.opens(&lasting).await;
    assert_eq!(issuer.authorization().as_deref(), Some("Bearer second"));

    config.jwt.ca_file = None;
    let trustful = House::open(&config, &both()).await;
    trustful.shut("a certificate that nobody vouches for", &lasting).await;
    assert_eq!(issuer.asked(), 2);
}
