//! An issuer of JWTs: keys, what they sign, and a server that shows their public halves.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, serve};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderMap, StatusCode, header};
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// FOR TESTS ONLY, and public since it was written: an RSA key of 2048 bits (PKCS #8), which ring cannot make.
const RSA_TEST_KEY: &str = "\
    MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQCulxNIvMDVG3uDLnAGKHHEvdN9+HWIdoSiQAqnR/RWzToy8k8MduqR\
    k0W6YjfGqco7Pvo7fYc9/5addmoc4f7pBwxhbiTL2m0CE0lMquX7qeubKFRS3st+/F5pDIwBJ9Nf98teGk8BKaNao4bnj6wcCLr9QCv3\
    /ZOK0ZF1jELntRbAEFGHxWr329uBWDQfYeP2ClSQCu/asEyOUc+YzdkEFTgC4qLcOIFWwRnc/Y2HqR8xJmfrBeVoML4LeF1UlZuwT8MX\
    S2BvklsEQkQWTiNRCiGlkhFZcgS486OctOl4YwEUZjub0jI146d9fzUvmlkNyCI1PJPzafJr2rN9AlqDAgMBAAECggEAK2FmbUBZOZpm\
    iiXTt/P8sMHp9vbxXUL1mcsH2qDKWXcM6vPCKHqzthA91x3odfhiQ25Whsmd/Q2wwtdVbm/JAuW5ccwIYI6ZX1ajc+VS18FUxWyz5xNs\
    xNS4MKnpb7ARmVrcsTkgQE20RSU0s/zC6wRQUfTL+AaNzoRb/DUpuqCfNwDO2dnuLeVe06Mp8W867APSL7U3EynFDE90aBD13auS6Kfw\
    GdtW32H2w1QpWWhHEecvB+OmQLSXz2vKWbeaNLk4dSB9c+dxJ5VXGRsEBXwnUiY4sCbKbw7JlKCc3P4CP/vRc62yniGpZSXfMw8tJt/G\
    tKlL/hiX1EVtJkEjwQKBgQDZzRBrkgxRtLtAInmmu+R7r+FTPRQsNIIumMSgR4QwIt7/VTgSxOwS3pNadmruSHSt3oMkTL1QdI+K8XWZ\
    jL3PUAlmui0fXKcdsOtRVToMnUOKIEVp3eaR3flG/BKeeqTcCQ1P0n1j/9Ow6+jba1UvWoyXyv2InCgLw2Zq9RdpKQKBgQDNNehZwAIL\
    Hbf09tQGnoTyoVyJCOVtbfLgjUhAvm67Ex5xNRK/2sAQOglN4ASuwSj9hPjlrzhS+yGJkQ5e1BMZVzqFI3BXA5/DKFnMe37pGoZwDmy+\
    RalXOGd0iFOJ+bxlV9gs4Q1FQL+KzfegXt02bu0ZiB20ojSqRqZxOMYfywKBgQCVCAhwUuMzFWP7optzR6Y0LEkWV/jxtoxNriL9OXJu\
    La5BMOLJlQ2ka8CQae8JVXLhdhxuPkRcRSXjgQ1jIDbRIIcOT96IUzHW0zRx1st9zi5k2Wgl5LzcmvLza5Ch+HHOTjNZp0I9ptQHf6U6\
    XttPJ7qEM1YAoDmWswHltgdq4QKBgEQzd15kvwkcvmeupPbyNjNBR7TPfRiqYv8YVXwXDkwkZYiwX+PdetmpwC/elQ/TaKEhUWtcmbaS\
    einzSLhheVuBrxRSm+J/dNhyj62zGZG1XBrf4Go4UriHKXMEX+dKVb/EuzbnMPbkNwSVwYfOH20Y3roOj/jZs/Ene+fDO62TAoGBAMUd\
    +Rs/b3IDcbHt2pPfxiYcZbkSaFl+U30Q0OLujux55DsoLPQFyV7Mf3b8bdrOyPcNglTRLBoK5JGiKOBb21yKAu2D3OCqHCVuH87ecKqd\
    MTyk9KsD/peg8iWE1EKZlU3GDamCmhlAa9nc0OqT2SM1+Qp3/IlWciIGYKHAakcR";

/// Base64 as JWTs write it.
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A JWT of these parts.
pub fn assemble(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let signature = encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Curve(EcdsaKeyPair),
    Edwards(Ed25519KeyPair),
}

/// A private key with a name.
pub struct Signer {
    id: String,
    pair: Pair,
}

impl Signer {
    /// RS256, always with the same key.
    pub fn rsa(id: &str) -> Self {
        let pair = RsaKeyPair::from_pkcs8(&STANDARD.decode(RSA_TEST_KEY).unwrap()).unwrap();
        Self { id: id.to_owned(), pair: Pair::Rsa(Box::new(pair)) }
    }

    /// ES256, with a new key.
    pub fn curve(id: &str) -> Self {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).unwrap();
        Self { id: id.to_owned(), pair: Pair::Curve(pair) }
    }

    /// `EdDSA`, with a new key.
    pub fn edwards(id: &str) -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap();
        Self { id: id.to_owned(), pair: Pair::Edwards(pair) }
    }

    const fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::Curve(_) => "ES256",
            Pair::Edwards(_) => "EdDSA",
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            Pair::Curve(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Edwards(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// What it is usually called by.
    pub fn header(&self) -> Value {
        json!({"alg": self.algorithm(), "kid": self.id, "typ": "JWT"})
    }

    pub fn token(&self, claims: &Value) -> String {
        self.token_with(&self.header(), claims)
    }

    pub fn token_with(&self, header: &Value, claims: &Value) -> String {
        assemble(header, claims, |message| self.sign(message))
    }

    /// The bytes of the public key that everybody knows.
    pub fn public(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Rsa(pair) => PublicKeyComponents::<Vec<u8>>::from(pair.public()).n,
            Pair::Curve(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Edwards(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    /// The public key as a JWK.
    pub fn jwk(&self) -> Value {
        let public = self.public();
        let mut key = match &self.pair {
            Pair::Rsa(pair) => {
                let e = PublicKeyComponents::<Vec<u8>>::from(pair.public()).e;
                json!({"kty": "RSA", "n": encode(public), "e": encode(e)})
            }
            Pair::Curve(_) => {
                let (x, y) = public.split_at(1).1.split_at(32);
                json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)})
            }
            Pair::Edwards(_) => json!({"kty": "OKP", "crv": "Ed25519", "x": encode(public)}),
        };
        key["kid"] = self.id.clone().into();
        key["use"] = "sig".into();
        key["alg"] = self.algorithm().into();
        key
    }
}

/// What the server shows, and what it saw.
#[derive(Default)]
pub struct Shown {
    answer: Mutex<(StatusCode, HeaderMap, String)>,
    asked: AtomicUsize,
    authorization: Mutex<Option<String>>,
    /// Whoever holds it keeps the server from answering.
    pub hold: tokio::sync::Mutex<()>,
}

/// The server of public keys.
pub struct Issuer {
    pub url: String,
    pub shown: Arc<Shown>,
    /// Its certificate authority, if it speaks TLS.
    pub authority: Option<PathBuf>,
    _directory: Option<tempfile::TempDir>,
}

async fn show(State(shown): State<Arc<Shown>>, headers: HeaderMap) -> Response {
    shown.asked.fetch_add(1, Ordering::SeqCst);
    let given = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    *shown.authorization.lock().unwrap() = given;
    drop(shown.hold.lock().await);
    shown.answer.lock().unwrap().clone().into_response()
}

impl Issuer {
    pub async fn open(keys: &[&Signer]) -> Self {
        let (shown, router) = Self::router(keys);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        tokio::spawn(async move { serve(listener, router).await.unwrap() });
        Self { url, shown, authority: None, _directory: None }
    }

    /// One with a certificate that nobody trusts but by its `authority`.
    pub async fn with_tls(keys: &[&Signer]) -> Self {
        let (shown, router) = Self::router(keys);
        let (acceptor, authority) = tls::acceptor();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.crt");
        std::fs::write(&path, authority).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}/keys", tcp.local_addr().unwrap().port());
        let listener = tls::Listener { tcp, acceptor };
        tokio::spawn(async move { serve(listener, router).await.unwrap() });
        Self { url, shown, authority: Some(path), _directory: Some(directory) }
    }

    fn router(keys: &[&Signer]) -> (Arc<Shown>, Router) {
        let shown = Arc::new(Shown::default());
        let router = Router::new().route("/keys", get(show)).with_state(Arc::clone(&shown));
        let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
        *shown.answer.lock().unwrap() =
            (StatusCode::OK, HeaderMap::new(), json!({ "keys": keys }).to_string());
        (shown, router)
    }

    pub fn show(&self, keys: &[&Signer]) {
        let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
        self.answer(StatusCode::OK, &json!({ "keys": keys }).to_string());
    }

    pub fn answer(&self, status: StatusCode, body: &str) {
        *self.shown.answer.lock().unwrap() = (status, HeaderMap::new(), body.to_owned());
    }

    pub fn redirect(&self, to: &str) {
        let headers = HeaderMap::from_iter([(header::LOCATION, to.parse().unwrap())]);
        *self.shown.answer.lock().unwrap() = (StatusCode::FOUND, headers, String::new());
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.shown.asked.load(Ordering::SeqCst)
    }

    /// What it was shown last.
    pub fn authorization(&self) -> Option<String> {
        self.shown.authorization.lock().unwrap().clone()
    }
}

mod tls {
    use std::io;
    use std::net::SocketAddr;
    use std::sync::Arc;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::server::TlsStream;

    /// For `localhost`, and the PEM of the authority behind it.
    pub fn acceptor() -> (TlsAcceptor, String) {
        let (mut parameters, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = parameters.self_signed(&key).unwrap().pem();
        let authority = Issuer::new(parameters, key);
        let own = KeyPair::generate().unwrap();
        let names = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = names.signed_by(&own, &authority).unwrap();
        let key = PrivateKeyDer::try_from(own.serialize_der()).unwrap();
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        (TlsAcceptor::from(Arc::new(config)), pem)
    }

    pub struct Listener {
        pub tcp: TcpListener,
        pub acceptor: TlsAcceptor,
    }

    impl axum::serve::Listener for Listener {
        type Io = TlsStream<TcpStream>;
        type Addr = SocketAddr;

        async fn accept(&mut self) -> (Self::Io, Self::Addr) {
            loop {
                let (stream, address) = self.tcp.accept().await.unwrap();
                if let Ok(stream) = self.acceptor.accept(stream).await {
                    return (stream, address);
                }
            }
        }

        fn local_addr(&self) -> io::Result<Self::Addr> {
            self.tcp.local_addr()
        }
    }
}
