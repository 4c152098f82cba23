//! The configuration: whatever stands in it, an error is one line and shows no secret.

use std::collections::BTreeMap;

use secrecy::ExposeSecret;
use serde_json::Value;

use crate::config::Config;

/// The keys whose values are secrets.
const SECRETS: [&str; 6] =
    ["token", "bot_token", "app_token", "signing_secret", "database_url", "a2a_token"];
/// A shorter one may stand anywhere by chance.
const SHORTEST: usize = 8;

pub(super) fn load(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (file, env) = text.split_once("\n%%\n").unwrap_or((text, ""));
    let env: BTreeMap<&str, &str> = env
        .lines()
        .filter_map(|line| line.split_once('='))
        // Those of the machine are not read here.
        .filter(|(name, _)| !name.ends_with("_FILE"))
        .collect();
    let path = std::env::temp_dir().join(format!(
        "herald-fuzz-{}-{:?}.yaml",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::write(&path, file).unwrap();
    let loaded = Config::load(Some(&path), &|name| env.get(name).map(|&value| value.to_owned()));
    let _ = std::fs::remove_file(&path);
    match loaded {
        Ok(config) => {
            assert!(config.policy().is_ok(), "it was accepted");
            let shown = format!("{config:?}");
            for secret in config.secrets() {
                let secret = secret.expose_secret();
                let alone = text.matches(secret).count() == 1;
                let hidden = secret.len() < SHORTEST || !alone || !shown.contains(secret);
                assert!(hidden, "{secret:?} in {shown}");
            }
        }
        Err(error) => {
            let error = error.to_string();
            assert_eq!(error.lines().count(), 1, "{error:?}");
            let mut secrets = Vec::new();
            if let Ok(file) = serde_saphyr::from_str::<Value>(file) {
                find(&file, &mut secrets);
            }
            for secret in secrets {
                // What stands elsewhere too, in a list of channels or as a key, is no secret.
                let alone = text.matches(&secret).count() == 1;
                let hidden = secret.len() < SHORTEST || !alone || !error.contains(&secret);
                assert!(hidden, "{secret:?} in {error}");
            }
        }
    }
}

/// The secrets of a file that is YAML.
fn find(value: &Value, secrets: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if SECRETS.contains(&name.as_str()) => {
                        secrets.push(text.clone());
                    }
                    value => find(value, secrets),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| find(value, secrets)),
        _ => {}
    }
}
