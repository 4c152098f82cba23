//! A PostgreSQL server for the tests: the one that `HERALD_TEST_DATABASE_URL` names, or the installed one, started for
//! this process alone on a socket in a temporary directory.
//!
//! Part of the library's own tests, too.

use std::io::{BufRead, BufReader};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Runs until its stdin ends, which is when this process does, however it does. On stdin it is told to `stop` the server,
/// as a crash would, and to `start` it again.
const SCRIPT: &str = r#"
set -eu
bin=
for at in "$(dirname "$(command -v initdb || echo /-/-)")" /usr/lib/postgresql/*/bin; do
  if [ -x "$at/initdb" ] && [ -x "$at/postgres" ]; then bin=$at; fi
done
[ -n "$bin" ] || { echo "no initdb and postgres on PATH or in /usr/lib/postgresql" >&2; exit 3; }
as=
if [ "$(id -u)" = 0 ]; then
  # PostgreSQL refuses to run as root.
  user=nobody; if id postgres >/dev/null 2>&1; then user=postgres; fi
  as="setpriv --reuid $user --regid $(id -g $user) --clear-groups --"
fi
cd /
dir=$($as mktemp -d /tmp/herald-postgres.XXXXXX)
pid=
end() { [ -z "$pid" ] || { kill -QUIT "$pid" && wait "$pid"; } 2>/dev/null || true; rm -rf "$dir"; }
trap end EXIT
$as "$bin/initdb" -D "$dir/data" -U herald -A trust --no-sync -E UTF8 --locale=C >"$dir.log" 2>&1 ||
  { cat "$dir.log" >&2; rm -f "$dir.log"; exit 4; }
rm -f "$dir.log"
start() {
  $as "$bin/postgres" -D "$dir/data" -k "$dir" -h '' -F -c max_connections=300 -c full_page_writes=off >/dev/null 2>&1 &
  pid=$!
  n=0
  until $as "$bin/pg_isready" -q -h "$dir" -U herald -d postgres; do
    n=$((n + 1)); [ $n -lt 300 ] || { echo "postgres did not start" >&2; exit 5; }
    sleep 0.1
  done
}
start
echo "$dir"
while read -r word; do
  case $word in
    start) start ;;
    stop) kill -QUIT "$pid"; wait "$pid" || true; pid= ;;
  esac
  echo "$word"
done
"#;

/// A server's URL, where it is told what to do, and what it did. It ends with its stdin, that is with this process.
pub type Server = (String, ChildStdin, BufReader<ChildStdout>);

/// The URL of a schema that nobody else uses. `None`, said aloud, where there is no PostgreSQL; a failure where
/// `HERALD_REQUIRE_POSTGRES` is set.
pub fn schema() -> Option<String> {
    static SERVER: OnceLock<Result<String, String>> = OnceLock::new();
    static STARTED: OnceLock<Server> = OnceLock::new();
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let server = SERVER.get_or_init(|| match std::env::var("HERALD_TEST_DATABASE_URL") {
        Ok(url) => Ok(url),
        Err(_) => start().map(|server| STARTED.get_or_init(|| server).0.clone()),
    });
    let url = unless_missing(server.as_ref())?;
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let and = if url.contains('?') { '&' } else { '?' };
    let own = format!("herald_test_{}_{n}", std::process::id());
    Some(format!("{url}{and}options[search_path]={own}"))
}

/// What there is; `None`, said aloud, where there is no PostgreSQL and it is not required.
pub fn unless_missing<T, E: std::fmt::Display>(server: Result<T, E>) -> Option<T> {
    server
        .inspect_err(|why| {
            let required = std::env::var_os("HERALD_REQUIRE_POSTGRES").is_some();
            assert!(!required, "the tests need PostgreSQL: {why}");
            eprintln!("SKIPPED, because there is no PostgreSQL: {why}");
        })
        .ok()
}

/// Starts a server for this process alone.
pub fn start() -> Result<Server, String> {
    let mut server = Command::new("sh")
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let (tell, told) = (server.stdin.take(), server.stdout.take());
    let (tell, mut told) = (tell.ok_or("no input")?, BufReader::new(told.ok_or("no output")?));
    let mut line = String::new();
    told.read_line(&mut line).map_err(|error| error.to_string())?;
    let directory = line.trim();
    if directory.is_empty() {
        return Err("it could not be started; its last words are above".to_owned());
    }
    let url = format!("postgres://herald@{}/postgres", directory.replace('/', "%2F"));
    Ok((url, tell, told))
}
