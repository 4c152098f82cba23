//! Who gets in: tokens and JWTs over real HTTP. What is refused reaches no tool.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use herald::config::{Config, ConfigError};
use herald::mcp::{self, Clients, Door, jwt};
use ring::hmac;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use url::Url;

use crate::gate::{AGENT, House, ISSUER, NOW, both, call, claims, client, trusting, with, without};
use crate::issuer::{Issuer, Signer, assemble, encode};
use crate::world::{EVERY, SLACK, Workspace, message};

#[tokio::test]
async fn each_client_has_tokens_of_its_own_and_a_rotation_needs_no_restart() {
    let clients: Clients =
        [client("k8s", &["old", "new"], &[]), client("helm", &["helm-token"], &[])].into();
    let config = mcp::Config { token: Some("Bearer shared".into()), ..mcp::Config::default() };
    let house = House::open(&config, &clients).await;
    let sent = house.opens("old").await;
    assert!(house.sees("new", &sent, &[]).await, "both are the same client's");
    for other in ["helm-token", "shared"] {
        house.opens(other).await;
        assert!(!house.sees(other, &sent, &[]).await, "{other}");
    }
    let refused = house.shut("a stranger's", "unknown").await;
    assert_eq!(refused.challenge.as_deref(), Some("Bearer"), "nothing more is known without JWT");

    let rotated: Clients = [client("k8s", &["new"], &[])].into();
    house.gate.replace(Door::new(&config, &rotated).unwrap()).unwrap();
    house.shut("the old token", "old").await;
    house.shut("a client that is gone", "helm-token").await;
    house.opens("new").await;
}

#[tokio::test]
async fn a_service_account_token_is_the_client_that_its_subject_names() {
    let key = Signer::rsa("cluster");
    let issuer = Issuer::open(&[&key]).await;
    let house = House::open(&trusting(&issuer), &both()).await;
    // As projected into a Pod by Kubernetes 1.33.
    let claims = json!({
        "aud": ["herald"], "exp": NOW + 3607, "iat": NOW, "iss": ISSUER,
        "jti": "0e5bd0f7-5f6f-4bfc-9a0b-5bc1ff0bbbe5",
        "kubernetes.io": {
            "namespace": "kagent",
            "node": {"name": "node-1", "uid": "5a9a4c9e-5b11-4a5a-9f0b-3f1a30b6bba1"},
            "pod": {"name": "k8s-agent-7c9d", "uid": "9d1d7d26-1f0d-4a43-8b0e-f0e6c7a9e9a2"},
            "serviceaccount": {"name": "k8s-agent", "uid": "c3a5e0b2-6b7e-49cb-a8cb-df8f3a2a64c4"},
        },
        "nbf": NOW, "sub": AGENT,
    });
    let token = key.token_with(&json!({"alg": "RS256", "kid": "cluster"}), &claims);
    let sent = house.opens(&token).await;
    assert!(house.sees("k8s-token", &sent, &[]).await, "the same client, by its token");
    assert!(!house.sees("helm-token", &sent, &[]).await);
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn a_jwt_is_good_in_each_way_it_may_be_written() {
    let (rsa, curve, edwards) = (Signer::rsa("r"), Signer::curve("c"), Signer::edwards("e"));
    let issuer = Issuer::open(&[&rsa, &curve, &edwards]).await;
    let mut config = trusting(&issuer);
    config.jwt.algorithms.push(jwt::Algorithm::EdDsa);
    let house = House::open(&config, &both()).await;
    for key in [&rsa, &curve, &edwards] {
        house.opens(&key.token(&claims())).await;
        house.opens(&key.token_with(&without(key.header(), "kid"), &claims())).await;
    }
    for claims in [
        with(claims(), "aud", "herald"),
        with(claims(), "aud", json!(["other", "https://herald.example/mcp"])),
        without(claims(), "nbf"),
        // Clocks may differ by 30 s.
        with(claims(), "exp", NOW - 29),
        with(claims(), "exp", 1_800_000_000.5),
        with(claims(), "nbf", NOW + 30),
    ] {
        house.opens(&curve.token(&claims)).await;
    }

    config.jwt.client_claim = "azp".to_owned();
    house.gate.replace(Door::new(&config, &both()).unwrap()).unwrap();
    house.shut("sub no longer counts", &rsa.token(&claims())).await;
    house.opens(&rsa.token(&with(with(claims(), "sub", "someone"), "azp", AGENT))).await;
    assert_eq!(issuer.asked(), 1, "the keys outlived the door");
}

/// Tokens with one thing wrong.
fn flawed(key: &Signer, edwards: &Signer, other: &Signer) -> Vec<(&'static str, String)> {
    let good = key.token(&claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let unsigned = |alg: &str| assemble(&json!({"alg": alg}), &claims(), |_| Vec::new());
    let shared = |secret: &[u8]| {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        assemble(&json!({"alg": "HS256", "kid": "cluster"}), &claims(), |message| {
            hmac::sign(&secret, message).as_ref().to_vec()
        })
    };
    let forged = other.token_with(&key.header(), &claims());
    let header_with = |name, value: Value| with(key.header(), name, value);
    let named = |header: &Value| key.token_with(header, &claims());
    let says = |claims: &Value| key.token(claims);
    vec![
        ("expired", says(&with(claims(), "exp", NOW - 30))),
        ("not valid yet", says(&with(claims(), "nbf", NOW + 31))),
        ("for another server", says(&with(claims(), "aud", "other"))),
        ("for several other servers", says(&with(claims(), "aud", json!(["other", "herald2"])))),
        ("for nobody", says(&with(claims(), "aud", json!([])))),
        ("for a number", says(&with(claims(), "aud", 7))),
        ("without an audience", says(&without(claims(), "aud"))),
        ("of another issuer", says(&with(claims(), "iss", "https://kubernetes.default.svc"))),
        ("of several issuers", says(&with(claims(), "iss", json!([ISSUER])))),
        ("without an issuer", says(&without(claims(), "iss"))),
        ("without an end", says(&without(claims(), "exp"))),
        ("with an end in words", says(&with(claims(), "exp", "2099-01-01"))),
        ("with a start in words", says(&with(claims(), "nbf", "now"))),
        ("without a subject", says(&without(claims(), "sub"))),
        ("with a subject that is a list", says(&with(claims(), "sub", json!([AGENT])))),
        ("with an empty subject", says(&with(claims(), "sub", ""))),
        ("without a signature", format!("{message}.")),
        ("alg none", unsigned("none")),
        ("alg None", unsigned("None")),
        (
            "alg nOnE, kid known",
            assemble(&header_with("alg", "nOnE".into()), &claims(), |_| vec![]),
        ),
        ("without alg", named(&without(key.header(), "alg"))),
        ("HS256 with the public key", shared(&key.public())),
        ("HS256 with the JWK", shared(key.jwk().to_string().as_bytes())),
        ("HS256 with nothing", shared(b"")),
        ("a known key's algorithm that is not allowed", edwards.token(&claims())),
        ("an algorithm that is not the key's", named(&header_with("alg", "RS512".into()))),
        ("another family's algorithm", named(&header_with("alg", "ES256".into()))),
        ("signed by somebody else", forged),
        ("signed by somebody else, key enclosed", {
            other.token_with(
                &with(with(key.header(), "alg", "ES256"), "jwk", other.jwk()),
                &claims(),
            )
        }),
        ("an unknown key", named(&header_with("kid", "unknown".into()))),
        ("an empty key name", named(&header_with("kid", "".into()))),
        ("a key name that is a path", named(&header_with("kid", "../../dev/null".into()))),
        ("a header that must be understood", named(&header_with("crit", json!(["b64"])))),
        ("another payload", {
            let payload =
                encode(with(claims(), "sub", "system:serviceaccount:kagent:helm").to_string());
            format!("{header}.{payload}.{signature}")
        }),
        ("another header", {
            let header = encode(with(key.header(), "typ", "at+jwt").to_string());
            format!("{header}.{payload}.{signature}")
        }),
        ("a longer signature", format!("{good}AA")),
        ("padding", format!("{good}=")),
        ("a fourth part", format!("{good}.{signature}")),
        ("encrypted", format!("{header}.a.b.c.{signature}")),
        ("two tokens", format!("{good},{good}")),
        ("no claims", format!("{header}..{signature}")),
        ("dots", "..".to_owned()),
        ("garbage", "a.b.c".to_owned()),
        ("empty objects", "e30.e30.e30".to_owned()),
        ("deeply nested", format!("{}.e30.", encode("[".repeat(5000)))),
        ("oversized", says(&with(claims(), "groups", "g".repeat(16 * 1024)))),
    ]
}

#[tokio::test]
async fn a_jwt_with_anything_wrong_opens_nothing() {
    let (key, edwards) = (Signer::rsa("cluster"), Signer::edwards("edwards"));
    let other = Signer::curve("other");
    let issuer = Issuer::open(&[&key, &edwards, &Signer::curve("second")]).await;
    let house = House::open(&trusting(&issuer), &both()).await;
    house.opens(&key.token(&claims())).await;
    let told = house.shut("garbage", "garbage").await;
    for (what, token) in flawed(&key, &edwards, &other) {
        let refused = house.shut(what, &token).await;
        assert_eq!(refused.body, told.body, "{what}: which half was wrong is not told");
        assert_eq!(refused.challenge, told.challenge, "{what}");
    }
    assert!(told.challenge.unwrap().contains("error=\"invalid_token\""));
    house.opens(&key.token(&claims())).await;
}

#[tokio::test]
async fn a_good_jwt_of_a_stranger_is_forbidden_and_told_what_helps() {
    let key = Signer::rsa("cluster");
    let issuer = Issuer::open(&[&key]).await;
    let house = House::open(&trusting(&issuer), &both()).await;
    for subject in ["system:serviceaccount:kagent:default", "k8s", "K8S", "helm-token"] {
        let token = key.token(&with(claims(), "sub", subject));
        let refused = house.send("/mcp", &[("authorization", &format!("Bearer {token}"))]).await;
        assert_eq!(refused.status, 403, "{subject}");
        assert!(refused.challenge.unwrap().contains("error=\"insufficient_scope\""), "{subject}");
        let advice = refused.body["error_description"].as_str().unwrap();
        assert!(advice.contains("`subjects`") && !advice.contains(AGENT), "{advice}");
    }
    assert!(house.workspace.sends(SLACK).is_empty());
}

#[tokio::test]
async fn what_a_caller_says_beside_its_token_decides_nothing() {
    let key = Signer::rsa("cluster");
    let issuer = Issuer::open(&[&key]).await;
    let house = House::open(&trusting(&issuer), &both()).await;
    let sent = house.opens("k8s-token").await;
    let claimed = [
        ("x-user-id", "k8s"),
        ("x-forwarded-user", "k8s"),
        ("x-agent-name", "k8s"),
        ("x-client", "k8s"),
        ("cookie", "token=k8s-token"),
        ("x-api-key", "k8s-token"),
        ("proxy-authorization", "Bearer k8s-token"),
        ("forwarded", "for=127.0.0.1"),
    ];
    house.refuses("headers without a token", &claimed).await;
    assert!(!house.sees("helm-token", &sent, &claimed).await);
    assert!(house.sees("k8s-token", &sent, &[("x-user-id", "helm")]).await);

    let (one, two) =
        (("authorization", "Bearer k8s-token"), ("authorization", "Bearer helm-token"));
    house.refuses("two tokens", &[one, two]).await;
    house.refuses("the same token twice", &[one, one]).await;
    house.refuses("another scheme", &[("authorization", "Basic azhzLXRva2Vu")]).await;

    let jwt = key.token(&claims());
    for query in ["access_token=k8s-token", &format!("access_token={jwt}"), "token=k8s-token"] {
        let refused = house.send(&format!("/mcp?{query}"), &[]).await;
        assert_eq!(refused.status, 401, "{query}");
    }
    let path = "/mcp?access_token=k8s-token";
    let body = call("get_delivery", &json!({ "delivery_id": sent }));
    let answer = house.ask(path, &[two], &body).await;
    assert_eq!(answer.body["result"]["isError"], true, "the header alone counts");
}

#[tokio::test]
async fn a_callers_token_is_passed_on_to_nobody() {
    let key = Signer::rsa("cluster");
    let issuer = Issuer::open(&[&key]).await;
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut workspace = Workspace::open().await;
    let recorder = Arc::clone(&seen);
    let record = move |request: Request, next: Next| {
        let recorder = Arc::clone(&recorder);
        async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            let text = String::from_utf8_lossy(&body);
            recorder.lock().unwrap().push(format!("{} {:?} {text}", parts.uri, parts.headers));
            next.run(Request::from_parts(parts, body.into())).await
        }
    };
    let router = workspace.world.router().layer(from_fn(record));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    workspace.base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });

    let house = House::open_at(workspace, &trusting(&issuer), &both()).await;
    let jwt = key.token(&claims());
    for token in [jwt.as_str(), "k8s-token"] {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str()), ("x-user-id", "alice")];
        let mut calls = vec![call("list_channels", &json!({}))];
        for channel in EVERY {
            let (tool, arguments) = message(channel, "hello", json!({}));
            calls.push(call(&tool, &arguments));
        }
        for body in calls {
            let answer = house.ask("/mcp", &headers, &body).await;
            assert_eq!(answer.body["result"]["isError"], false, "{}", answer.body);
        }
    }
    let seen = seen.lock().unwrap();
    assert!(seen.iter().filter(|request| request.contains("hello")).count() >= 6, "{seen:?}");
    let signature = jwt.rsplit_once('.').unwrap().1;
    for request in seen.iter() {
        for secret in ["k8s-token", signature, "alice"] {
            assert!(!request.contains(secret), "{request}");
        }
    }
    assert_eq!(issuer.authorization(), None, "nor to the issuer");
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_tells_the_operator_why_and_shows_no_token_and_no_claim() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // With one subscriber alone, whichever thread comes first to a line decides for all whether it is of interest, and those
    // of other tests have none.
    let _second = ::tracing::Dispatch::new(tracing_subscriber::registry());
    let _guard = ::tracing::subscriber::set_default(subscriber);
    let key = Signer::rsa("cluster");
    let issuer = Issuer::open(&[&key]).await;
    let house = House::open(&trusting(&issuer), &both()).await;
    let private = with(claims(), "email", "canary@example.com");
    let good = key.token(&private);
    let late = key.token(&with(private.clone(), "exp", NOW - 100));
    let stranger = key.token(&with(private, "sub", "somebody\nelse"));
    house.opens(&good).await;
    house.opens("k8s-token").await;
    house.shut("late", &late).await;
    let authorization = format!("Bearer {stranger}");
    house.send("/mcp?access_token=canary", &[("authorization", &authorization)]).await;

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("it has expired") && log.contains("cluster"), "{log}");
    assert!(log.contains("its subject is no client's") && log.contains(r"somebody\nelse"));
    for secret in ["k8s-token", "canary", "k8s-agent"] {
        assert!(!log.contains(secret), "{secret} shows");
    }
    for token in [good, late, stranger] {
        for part in token.split('.').skip(1) {
            assert!(!log.contains(part), "a part of a token shows: {part}");
        }
    }
}

#[tokio::test]
async fn who_has_no_token_learns_where_to_get_one() {
    let key = Signer::rsa("cluster");
    let issuer = Issuer::open(&[&key]).await;
    let public_url = Url::parse("https://herald.example/agents/mcp").ok();
    let config = mcp::Config { public_url, ..trusting(&issuer) };
    let house = House::open(&config, &both()).await;
    let paths = ["", "/mcp", "/agents/mcp"];
    let well_known = |path| format!("/.well-known/oauth-protected-resource{path}");
    for path in paths {
        let answer = house.get(&well_known(path)).await;
        assert_eq!(answer.status, 200, "{path}");
        let expected = json!({
            "resource": "https://herald.example/agents/mcp",
            "authorization_servers": [ISSUER],
            "bearer_methods_supported": ["header"],
            "resource_name": "Herald",
        });
        assert_eq!(answer.body, expected, "{path}");
    }
    assert_eq!(house.get(&well_known("/other")).await.status, 404);

    let metadata = "Bearer resource_metadata=\"https://herald.example/.well-known/oauth-protected-resource/agents/mcp\"";
    let refused = house.refuses("nothing", &[]).await;
    assert_eq!(refused.challenge.as_deref(), Some(metadata), "no error where no token was shown");
    let refused = house.shut("garbage", "a.b.c").await;
    let challenge = refused.challenge.unwrap();
    let rest = challenge.strip_prefix(metadata).unwrap();
    assert!(rest.starts_with(", error=\"invalid_token\", error_description=\""), "{rest}");
    assert_eq!(challenge.matches('"').count(), 6, "{challenge}");

    // Without a public URL nobody knows where the document is; without JWT there is none.
    let tokens = mcp::Config { public_url: config.public_url.clone(), ..mcp::Config::default() };
    let without_jwt: Clients = [client("k8s", &["k8s-token"], &[])].into();
    for (config, clients) in [(&trusting(&issuer), &both()), (&tokens, &without_jwt)] {
        house.gate.replace(Door::new(config, clients).unwrap()).unwrap();
        for path in paths {
            assert_eq!(house.get(&well_known(path)).await.status, 404, "{path}");
        }
        let refused = house.refuses("nothing", &[]).await;
        assert_eq!(refused.challenge.as_deref(), Some("Bearer"));
    }
    assert_eq!(house.shut("garbage", "a.b.c").await.challenge.as_deref(), Some("Bearer"));
    assert_eq!(issuer.asked(), 0, "nobody needed a key");
}

fn load(file: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let mut path = tempfile::NamedTempFile::new().unwrap();
    path.write_all(file.as_bytes()).unwrap();
    let env: BTreeMap<_, _> = env.iter().copied().collect();
    Config::load(Some(path.path()), &|name| env.get(name).map(|value| (*value).to_owned()))
}

#[test]
fn jwts_are_set_in_the_file_or_in_the_environment() {
    let account = "/var/run/secrets/kubernetes.io/serviceaccount";
    let keys = "https://kubernetes.default.svc/openid/v1/jwks";
    let file = format!(
        "mcp:\n  public_url: https://herald.example\n  jwt:\n    issuer: {ISSUER}\n    audience: herald\n    \
         jwks_url: {keys}\n    ca_file: {account}/ca.crt\n    token_file: {account}/token\n"
    );
    let (authority, token) = (format!("{account}/ca.crt"), format!("{account}/token"));
    let env = [
        ("HERALD_PUBLIC_URL", "https://herald.example"),
        ("HERALD_JWT_ISSUER", ISSUER),
        ("HERALD_JWT_AUDIENCE", "herald"),
        ("HERALD_JWKS_URL", keys),
        ("HERALD_JWKS_CA_FILE", &authority),
        ("HERALD_JWKS_TOKEN_FILE", &token),
    ];
    let (by_file, by_env) = (load(&file, &[]).unwrap().mcp, load("", &env).unwrap().mcp);
    assert_eq!(by_file.jwt, by_env.jwt);
    assert_eq!(by_file.public_url, by_env.public_url);
    assert!(by_file.jwt.is_on());

    let on = ("HERALD_JWT_ISSUER", ISSUER);
    let audience = ("HERALD_JWT_AUDIENCE", "herald");
    for (file, env, words) in [
        ("", vec![on], vec!["HERALD_JWT_AUDIENCE", "`herald`"]),
        ("", vec![audience], vec!["HERALD_JWT_ISSUER", "`iss`"]),
        ("", vec![on, audience], vec!["HERALD_JWKS_URL", "jwks_file"]),
        ("mcp: {jwt: {algorithms: [HS256]}}", vec![], vec!["HS256", "RS256"]),
        ("mcp: {jwt: {algorithms: [none]}}", vec![], vec!["none", "RS256"]),
        ("mcp: {jwt: {verify: false}}", vec![], vec!["verify"]),
    ] {
        let error = load(file, &env).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{error}");
        }
    }
}
