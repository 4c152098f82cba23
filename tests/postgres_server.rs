//! A PostgreSQL server for the tests: the one that `HERALD_TEST_DATABASE_URL` names, or the installed one, started for
//! this process alone on a socket in a temporary directory.
//!
//! Part of the library's own tests, too.

use std::io::{BufRead, BufReader};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Runs until its stdin ends, which is when this process does, however it does.
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
$as "$bin/postgres" -D "$dir/data" -k "$dir" -h '' -F -c max_connections=300 -c full_page_writes=off >/dev/null 2>&1 &
pid=$!
n=0
until $as "$bin/pg_isready" -q -h "$dir" -U herald -d postgres; do
  n=$((n + 1)); [ $n -lt 300 ] || { echo "postgres did not start" >&2; exit 5; }
  sleep 0.1
done
echo "$dir"
read -r _ || true
"#;

struct Server {
    url: String,
    /// Closed when this process ends.
    _stdin: Option<ChildStdin>,
}

/// The URL of a schema that nobody else uses. `None`, said aloud, where there is no PostgreSQL; a failure where
/// `HERALD_REQUIRE_POSTGRES` is set.
pub fn schema() -> Option<String> {
    static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();
    static COUNT: AtomicU32 = AtomicU32::new(0);
    match SERVER.get_or_init(start) {
        Ok(server) => {
            let n = COUNT.fetch_add(1, Ordering::Relaxed);
            let and = if server.url.contains('?') { '&' } else { '?' };
            let own = format!("herald_test_{}_{n}", std::process::id());
            Some(format!("{}{and}options[search_path]={own}", server.url))
        }
        Err(why) => {
            let required = std::env::var_os("HERALD_REQUIRE_POSTGRES").is_some();
            assert!(!required, "the tests need PostgreSQL: {why}");
            eprintln!("SKIPPED, because there is no PostgreSQL: {why}");
            None
        }
    }
}

fn start() -> Result<Server, String> {
    if let Ok(url) = std::env::var("HERALD_TEST_DATABASE_URL") {
        return Ok(Server { url, _stdin: None });
    }
    let mut server = Command::new("sh")
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let (stdin, stdout) = (server.stdin.take(), server.stdout.take());
    let mut line = String::new();
    BufReader::new(stdout.ok_or("no output")?).read_line(&mut line).map_err(|e| e.to_string())?;
    let directory = line.trim();
    if directory.is_empty() {
        return Err("it could not be started; its last words are above".to_owned());
    }
    let url = format!("postgres://herald@{}/postgres", directory.replace('/', "%2F"));
    Ok(Server { url, _stdin: stdin })
}
