//! The issuer's public keys: changed, gone, and asked for by strangers.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::gate::{House, NOW, both, claims, trusting, with};
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

#[tokio::test]
async fn strangers_cannot_make_the_server_ask_for_keys_again_and_again() {
    let (key, unknown) = (Signer::curve("key"), Signer::curve("unknown"));
    let issuer = Issuer::open(&[&key]).await;
    let house = Arc::new(House::open(&trusting(&issuer), &both()).await);
    house.opens(&key.token(&claims())).await;
    house.clock.advance(Duration::from_secs(10));

    // All at once, while the issuer thinks about it.
    let held = issuer.shown.hold.lock().await;
    let mut strangers = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (house, token) = (Arc::clone(&house), unknown.token(&claims()));
        strangers.spawn(async move {
            let headers = [("authorization", &*format!("Bearer {token}"))];
            house.send("/mcp", &headers).await.status
        });
    }
    until("the issuer is asked", async || issuer.asked() == 2).await;
    // Who is known does not wait for that.
    house.opens(&key.token(&claims())).await;
    house.opens("k8s-token").await;
    drop(held);
    while let Some(status) = strangers.join_next().await {
        assert_eq!(status.unwrap(), 401);
    }
    for _ in 0..20 {
        house.shut("a stranger's key", &unknown.token(&claims())).await;
    }
    assert_eq!(issuer.asked(), 2);
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
