//! WebSockets over the one HTTP client: proxies, certificate authorities and names are found as for everything else.

use std::time::Duration;

use http::{HeaderValue, StatusCode, Version, header};
use reqwest::Upgraded;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use url::Url;

use super::http::{HttpClient, TransportError, tell_apart};

/// How long the handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// The largest message that is read, in bytes; a longer one ends the connection.
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// A connected WebSocket.
pub(super) type WebSocket = WebSocketStream<Upgraded>;

/// No WebSocket could be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    /// No answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// An answer that opens nothing.
    #[error("the server answered {0} instead of opening a WebSocket")]
    Refused(StatusCode),
    /// An answer to somebody else.
    #[error("the server's answer does not fit the request for a WebSocket")]
    Mismatch,
}

/// Opens a WebSocket at a `ws://`, `wss://`, `http://` or `https://` address.
pub(super) async fn open(http: &HttpClient, url: &Url) -> Result<WebSocket, SocketError> {
    let mut url = url.clone();
    let scheme = match url.scheme() {
        "ws" => "http",
        "wss" => "https",
        _ => url.scheme(),
    }
    .to_owned();
    url.set_scheme(&scheme).map_err(|()| TransportError::Malformed)?;
    let key = generate_key();
    let request = http
        .upgrade(url)
        .version(Version::HTTP_11)
        .header(header::CONNECTION, HeaderValue::from_static("Upgrade"))
        .header(header::UPGRADE, HeaderValue::from_static("websocket"))
        .header(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
        .header(header::SEC_WEBSOCKET_KEY, &key);
    let answer = tokio::time::timeout(HANDSHAKE, request.send()).await;
    let answer = answer.map_err(|_| TransportError::Timeout)?.map_err(|e| tell_apart(&e))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(SocketError::Refused(answer.status()));
    }
    let accepted = answer.headers().get(header::SEC_WEBSOCKET_ACCEPT);
    if accepted.is_none_or(|value| value.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes())
    {
        return Err(SocketError::Mismatch);
    }
    let upgraded = answer.upgrade().await.map_err(|e| tell_apart(&e))?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MOST_BYTES))
        .max_frame_size(Some(MOST_BYTES));
    Ok(WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::extract::WebSocketUpgrade;
    use axum::extract::ws::Message as Spoken;
    use axum::routing::get;
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;

    use super::*;
    use crate::platform::http::Settings;

    async fn serve() -> Url {
        let echo = |upgrade: WebSocketUpgrade| async {
            upgrade.on_upgrade(|mut socket| async move {
                while let Some(Ok(Spoken::Text(text))) = socket.recv().await {
                    let _ = socket.send(Spoken::Text(text)).await;
                }
            })
        };
        let app = Router::new().route("/socket", get(echo)).route("/page", get(|| async { "hi" }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/socket", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        url.parse().unwrap()
    }

    #[tokio::test]
    async fn opens_a_socket_and_says_when_it_cannot() {
        let settings = Settings { proxy_from_environment: false, ..Settings::default() };
        let http = HttpClient::new(&settings).unwrap();
        let url = serve().await;
        let mut socket = open(&http, &url).await.unwrap();
        socket.send(Message::text("hello")).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
        let page = url.join("page").unwrap();
        assert!(matches!(open(&http, &page).await, Err(SocketError::Refused(StatusCode::OK))));
    }
}
