//! What the URL says: where the server is, how it is reached, and the schema that is Herald's own.

use secrecy::{ExposeSecret, SecretString};
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use url::Url;

use super::StoreError;
use crate::telemetry::secrets::in_url;

/// The schema, where the URL names none.
const SCHEMA: &str = "herald";
/// The most connections of one process, where the URL does not say.
const CONNECTIONS: u32 = 10;
/// As many as the URL may ask for.
const MOST_CONNECTIONS: u32 = 1_000;
/// The longest name that PostgreSQL keeps whole.
const LONGEST_NAME: usize = 63;

/// A database, as its URL names it.
pub(super) struct Place {
    pub(super) options: PgConnectOptions,
    /// A plain name: letters, digits and underscores.
    pub(super) schema: String,
    /// The most connections of the pool: `pool_max_conns`, as it is called in URLs for Go's pgx, which kagent reads.
    pub(super) connections: u32,
    /// For people: host, port and database; never who, or the password.
    pub(super) shown: String,
}

/// Checks a database's URL without calling anybody.
///
/// # Errors
/// One line that says what is wrong with it, and never shows it: it holds a password.
pub fn check(url: &SecretString) -> Result<(), String> {
    read(url).map(|_| ()).map_err(|error| error.to_string())
}

/// The URL's secrets: itself, and its password as it is written there and as it is meant.
#[must_use]
pub fn secrets(url: &SecretString) -> Vec<SecretString> {
    let mut secrets = vec![url.clone()];
    if let Ok(read) = Url::parse(url.expose_secret()) {
        let pairs = read.query_pairs().filter(|(key, _)| key == "password");
        secrets.extend(pairs.map(|(_, value)| SecretString::from(value.into_owned())));
        secrets.extend(in_url(&read));
    }
    secrets
}

/// Reads the URL.
///
/// # Errors
/// As [`check`].
pub(super) fn read(url: &SecretString) -> Result<Place, StoreError> {
    let wrong = |what: &str| StoreError::DatabaseUrl(what.to_owned());
    let shape = "write postgres://user:password@host:5432/database, with special characters of the password as %XX";
    let mut url =
        Url::parse(url.expose_secret()).map_err(|_| wrong(&format!("it is not a URL: {shape}")))?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(wrong(&format!("it is not the URL of a PostgreSQL database: {shape}")));
    }
    let (mut schema, mut connections) = (SCHEMA.to_owned(), CONNECTIONS);
    let mut rest = Vec::new();
    for (key, value) in url.query_pairs() {
        if key == "pool_max_conns" {
            let asked = value.parse().ok().filter(|asked| (1..=MOST_CONNECTIONS).contains(asked));
            connections = asked
                .ok_or_else(|| wrong("its pool_max_conns has to be a number from 1 to 1000"))?;
            continue;
        }
        let named = match &*key {
            "options[search_path]" => Some((value.to_string(), String::new())),
            "options" => search_path(&value),
            _ => None,
        };
        match named {
            Some((named, others)) => {
                schema = named;
                if !others.is_empty() {
                    rest.push((key.into_owned(), others));
                }
            }
            None => rest.push((key.into_owned(), value.into_owned())),
        }
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if schema.is_empty() || schema.len() > LONGEST_NAME || !schema.chars().all(plain) {
        return Err(wrong(
            "the search_path in its options has to be one schema, named with a-z, 0-9 and _",
        ));
    }
    url.set_query(None);
    if !rest.is_empty() {
        url.query_pairs_mut().extend_pairs(&rest);
    }
    let options = PgConnectOptions::from_url(&url)
        // The driver's words would show what they are about.
        .map_err(|_| wrong(&format!("a part of it cannot be read (port, sslmode, …): {shape}")))?
        // Poolers refuse a session that asks for it, and no column here is a float.
        .extra_float_digits(None)
        .application_name("herald");
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    let shown = format!("{host}/{database} (schema {schema})");
    Ok(Place { options, schema, connections, shown })
}

/// The `search_path` of `-c search_path=name -c other=1`, and what else is asked for.
fn search_path(options: &str) -> Option<(String, String)> {
    let words: Vec<&str> = options.split_whitespace().filter(|word| *word != "-c").collect();
    let setting = |word: &&str| {
        let word = word.trim_start_matches("-c").trim_start_matches("--");
        word.strip_prefix("search_path=").map(str::to_owned)
    };
    let named = words.iter().find_map(setting)?;
    let others = words.iter().filter(|word| setting(word).is_none());
    let others: Vec<String> = others
        .map(|word| format!("-c {}", word.trim_start_matches("-c").trim_start_matches("--")))
        .collect();
    Some((named, others.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> Place {
        read(&SecretString::from(url)).map_err(|error| error.to_string()).unwrap()
    }

    #[test]
    fn says_where_and_never_who() {
        let place = place("postgres://ada:s3cret@db.example:6432/chat?sslmode=verify-full");
        assert_eq!(place.shown, "db.example:6432/chat (schema herald)");
        assert_eq!(place.options.get_username(), "ada");
        assert!(matches!(place.options.get_ssl_mode(), sqlx::postgres::PgSslMode::VerifyFull));
    }

    #[test]
    fn the_options_name_the_schema_and_keep_the_rest() {
        for (options, schema, kept) in [
            ("options=-c%20search_path%3Dours", "ours", None),
            ("options=-csearch_path%3Dours%20-c%20work_mem%3D1MB", "ours", Some("-c work_mem=1MB")),
            ("options[search_path]=ours", "ours", None),
            ("options=-c%20work_mem%3D1MB", "herald", Some("-c work_mem=1MB")),
        ] {
            let place = place(&format!("postgres://ada@db/chat?{options}"));
            assert_eq!(place.schema, schema, "{options}");
            assert_eq!(place.options.get_options(), kept, "{options}");
        }
    }

    #[test]
    fn the_url_says_how_many_connections() {
        let asked = place("postgres://ada@db/chat?pool_max_conns=4&sslmode=require");
        assert_eq!(asked.connections, 4);
        assert!(matches!(asked.options.get_ssl_mode(), sqlx::postgres::PgSslMode::Require));
        assert_eq!(place("postgres://ada@db/chat").connections, CONNECTIONS);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        for url in [
            "canary",
            "mysql://ada:canary@db/chat",
            "postgres://ada:canary@db:canary/chat",
            "postgres://ada:canary@db/chat?sslmode=canary",
            "postgres://ada:s3cret@db/chat?pool_max_conns=canary",
            "postgres://ada:canary@db/chat?pool_max_conns=0",
            "postgres://ada:canary@db/chat?pool_max_conns=1001",
            "postgres://ada:canary@db/chat?options[search_path]=canary,public",
            "postgres://ada:canary@db/chat?options[search_path]=%22canary",
        ] {
            let error = check(&SecretString::from(url)).unwrap_err();
            assert!(!error.contains("canary"), "{error}");
            assert_eq!(error.lines().count(), 1);
        }
    }

    #[test]
    fn the_password_is_a_secret_however_it_is_written() {
        let secrets = secrets(&SecretString::from("postgres://ada:p%40ss+word@db/chat"));
        let secrets: Vec<_> = secrets.iter().map(ExposeSecret::expose_secret).collect();
        assert_eq!(secrets, ["postgres://ada:p%40ss+word@db/chat", "p%40ss+word", "p@ss+word"]);
    }
}
