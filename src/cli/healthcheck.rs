//! `herald healthcheck`: whether the process beside this one answers, for exec probes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use http::Method;
use url::Url;

use super::LISTEN;
use crate::config::{Config, ConfigError};
use crate::platform::http::{HttpClient, Settings};

/// How long the answer may take. `/readyz` itself gives up after 2 s.
const PATIENCE: Duration = Duration::from_secs(3);

/// How much of a refusal is repeated, in bytes.
const QUOTED: usize = 2_000;

/// Asks `/healthz`, or with `ready` `/readyz`, of the process that listens at the address.
pub(super) async fn run(
    listen: Option<SocketAddr>,
    ready: bool,
    file: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    let path = if ready { "readyz" } else { "healthz" };
    let url: Url = format!("http://{}/{path}", reachable(address(listen, file)?)).parse()?;
    // It is this machine that is asked: a proxy would ask itself.
    let settings = Settings {
        proxy_from_environment: false,
        connect_timeout: PATIENCE,
        total_timeout: PATIENCE,
        body_limit: QUOTED,
        ..Settings::default()
    };
    let http = HttpClient::new(&settings)?;
    let answer = match http.send(http.request(Method::GET, url.clone())).await {
        Ok(answer) => answer,
        Err(error) => bail!(
            "{url}: {error}; if Herald listens elsewhere, say where with --listen or HERALD_LISTEN"
        ),
    };
    if !answer.status.is_success() {
        let said = String::from_utf8_lossy(&answer.body);
        let line: String = said.chars().filter(|c| !c.is_control()).collect();
        bail!("{url} answers {}: {line}", answer.status);
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the process listens, as it found out itself. What does not decide that is not read: a file that has been edited,
/// or a token that is being replaced, says nothing about a process that started before.
fn address(listen: Option<SocketAddr>, file: Option<&Path>) -> Result<SocketAddr, ConfigError> {
    let variable = |name: &str| std::env::var(name).ok().filter(|_| name == "HERALD_LISTEN");
    let named = match listen {
        Some(address) => Some(address),
        None => Config::load(None, &variable)?.listen,
    };
    match (named, file) {
        (Some(address), _) => Ok(address),
        (None, None) => Ok(LISTEN),
        (None, Some(_)) => {
            let env = |name: &str| std::env::var(name).ok();
            Ok(Config::load(file, &env)?.listen.unwrap_or(LISTEN))
        }
    }
}

/// A process that listens on every address is asked on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_reached_on_loopback() {
        for (listens, asked) in [
            ("0.0.0.0:3000", "127.0.0.1:3000"),
            ("[::]:3001", "[::1]:3001"),
            ("10.1.2.3:80", "10.1.2.3:80"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()).to_string(), asked);
        }
    }
}
