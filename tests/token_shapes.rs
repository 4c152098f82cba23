//! What the rules for token-shaped text find, what they leave alone, and that no shortcut loses a match.
#![expect(clippy::string_slice, reason = "ranges are of whole characters, and a test may stop")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use herald::guard::{Own, Rules};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use regex_automata::nfa::thompson::pikevm::PikeVM;
use regex_automata::util::syntax;
use regex_syntax::hir::{Class, Hir, HirKind};
use secrecy::{ExposeSecret, SecretString};

use crate::ordinary::message;

/// The whole file of gitleaks, which is not part of this repository. `HERALD_REQUIRE_GITLEAKS` makes its absence a failure.
fn gitleaks() -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/gitleaks/gitleaks.toml");
    let file = std::fs::read_to_string(&path).ok();
    if file.is_none() {
        assert!(std::env::var_os("HERALD_REQUIRE_GITLEAKS").is_none(), "no {}", path.display());
        eprintln!("SKIPPED: there is no {}", path.display());
    }
    file
}

fn own_file() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/guard/secrets/herald.toml");
    std::fs::read_to_string(path).unwrap()
}

fn redacted(rules: &Rules, text: &str) -> String {
    let mut text = text.to_owned();
    for hit in rules.find(&text.clone()).iter().rev() {
        text.replace_range(hit.range.clone(), &hit.mark());
    }
    text
}

/// One way to write each kind of secret, in brackets what has to be hidden: `{a:3}` stands for three letters or digits.
const WRITTEN: &[(&str, &str)] = &[
    ("aws-access-key-id", "The key [AKIA{U:16}] is used by the backup."),
    ("aws-access-key-id", "{\"AccessKeyId\": \"[ASIA{U:16}]\"}"),
    ("aws-secret-access-key", "AWS_SECRET_ACCESS_KEY=[{b:40}]"),
    ("aws-secret-access-key", "| `SecretAccessKey` | `[{b:40}]` |"),
    ("aws-secret-access-key", "aws_secret_access_key = [{b:40}]\nregion = eu-west-1"),
    ("aws-session-token", "aws_session_token = [{b:200}==]"),
    ("aws-bedrock-api-key", "export AWS_BEARER_TOKEN_BEDROCK=[ABSK{a:120}=]"),
    ("google-api-key", "https://maps.googleapis.com/maps/api/js?key=[AIza{w:35}]&v=3"),
    ("google-api-key", "GEMINI_API_KEY=[AQ.Ab8RN6{w:44}]"),
    ("google-oauth-client-secret", "\"client_secret\":\"[GOCSPX-{w:28}]\""),
    ("google-access-token", "gcloud auth print-access-token\n[ya29.{w:120}]\n"),
    (
        "azure-account-key",
        "DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=[{b:86}==];EndpointSuffix=core.windows.net",
    ),
    (
        "azure-account-key",
        "Endpoint=sb://acme.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccessKey=[{b:43}=]",
    ),
    ("azure-client-secret", "AZURE_CLIENT_SECRET: '[{a:3}8Q~{w:34}]'"),
    (
        "azure-sas",
        "https://acme.blob.core.windows.net/c/f?sv=2024-11-04&se=2026-12-01&sr=b&sp=r&sig=[{a:43}%3D]",
    ),
    ("azure-devops-token", "the PAT [{a:76}AZDO{a:4}] expires"),
    ("azure-identifiable-key", "AZURE_OPENAI_API_KEY=[{a:52}JQQJ99{a:26}]"),
    ("azure-identifiable-key", "`[{b:76}+ASt{b:5}g==]` is the key of the account"),
    ("azure-identifiable-key", "SharedAccessKey: [{b:33}+ASbA{b:5}=]"),
    ("azure-identifiable-key", "x-functions-key: [{w:44}AzFu{w:5}Q==]"),
    ("digitalocean-token", "doctl auth init -t [dop_v1_{x:64}]"),
    ("cloudflare-origin-ca-key", "X-Auth-User-Service-Key: [v1.0-{x:24}-{x:146}]"),
    ("cloudflare-token", "CLOUDFLARE_API_TOKEN=[cfut_{a:48}]"),
    ("cloudflare-token", "wrangler auth token\n[cfoat_{w:60}]\n"),
    ("fly-token", "FLY_API_TOKEN=\"FlyV1 [fm2_{b:200}=]\""),
    ("supabase-key", "SUPABASE_ACCESS_TOKEN=[sbp_{x:40}]"),
    ("supabase-key", "apikey: [sb_secret_{w:31}]"),
    ("vercel-token", "vercel --token [vcp_{a:56}]"),
    ("heroku-key", "HEROKU_API_KEY=[HRKU-AA{w:58}]"),
    ("github-token", "git clone https://x-access-token:[ghs_{a:36}]@github.com/acme/x.git"),
    ("github-token", "GITHUB_TOKEN=[ghp_{a:36}]."),
    ("github-token", "GH_TOKEN=[ghs_1234567_eyJ{w:60}.eyJ{w:300}.{w:86}]"),
    ("github-fine-grained-token", "token: [github_pat_{a:22}_{a:59}]"),
    ("gitlab-token", "PRIVATE-TOKEN: [glpat-{w:20}]"),
    ("gitlab-token", "CI_JOB_TOKEN is [glcbt-64_{w:20}]"),
    ("gitlab-token", "[glpat-{w:27}.01.{z:9}]"),
    ("gitlab-runner-registration-token", "--registration-token [GR1348941{w:20}]"),
    ("gitlab-session", "Cookie: _gitlab_session=[{x:32}]; theme=dark"),
    ("bitbucket-token", "BITBUCKET_TOKEN=[ATCTT3xFfGN0{w:160}]"),
    ("bitbucket-token", "app password [ATBB{a:32}] of the bot"),
    ("bitbucket-token", "Authorization: Bearer [BBDC-{b:44}]"),
    ("slack-token", "SLACK_BOT_TOKEN=[xoxb-{d:12}-{d:13}-{a:24}]"),
    ("slack-token", "[xoxe.xoxp-1-{a:160}]"),
    ("slack-app-token", "SLACK_APP_TOKEN: \"[xapp-1-A{U:10}-{d:13}-{x:64}]\""),
    ("slack-webhook", "curl -d @- https://hooks.slack.com/services/[T{U:8}/B{U:10}/{a:24}]"),
    ("slack-signing-secret", "**Signing Secret**: `[{x:32}]`"),
    ("discord-bot-token", "DISCORD_TOKEN=[MTIz{a:22}.G{w:5}.{w:38}]"),
    ("discord-bot-token", "Bot [MTIz{a:19}.C{w:5}.{w:27}]"),
    ("discord-webhook", "https://discord.com/api/webhooks/{d:18}/[{w:68}]"),
    ("telegram-bot-token", "https://api.telegram.org/bot[{d:10}:AA{w:33}]/getMe"),
    (
        "telegram-bot-token",
        "Use this token to access the HTTP API:\n[{d:9}:AA{w:33}]\nKeep it secure",
    ),
    ("openai-api-key", "OPENAI_API_KEY=[sk-proj-{w:74}T3BlbkFJ{w:74}]"),
    ("openai-api-key", "openai.api_key = '[sk-{a:20}T3BlbkFJ{a:20}]'"),
    ("openai-api-key", "key: [sk-service-{w:60}T3BlbkFJ{w:60}]"),
    ("anthropic-api-key", "x: [sk-ant-api03-{w:93}AA]"),
    ("compatible-api-key", "OPENROUTER_API_KEY=[sk-or-v1-{x:64}]"),
    ("compatible-api-key", "DEEPSEEK_API_KEY: [sk-{x:32}]"),
    ("compatible-api-key", "LANGFUSE_SECRET_KEY=[sk-lf-{x:8}-{x:4}-{x:4}-{x:4}-{x:12}]"),
    ("hugging-face-token", "HF_TOKEN=[hf_{a:34}]"),
    ("groq-api-key", "GROQ_API_KEY=[gsk_{a:52}]"),
    ("xai-api-key", "XAI_API_KEY=[xai-{a:80}]"),
    ("perplexity-api-key", "PPLX=[pplx-{a:48}]"),
    ("replicate-api-token", "REPLICATE_API_TOKEN=[r8_{a:37}]"),
    ("nvidia-api-key", "NVIDIA_API_KEY=[nvapi-{w:64}]"),
    ("langsmith-api-key", "LANGSMITH_API_KEY=[lsv2_pt_{x:32}_{x:10}]"),
    ("named-api-key", "MISTRAL_API_KEY=[{a:32}]"),
    ("named-api-key", "export CO_API_KEY='[{a:40}]'"),
    ("jwt", "kubectl create token herald\n[eyJhbGciOi{w:60}.eyJhdWQi{w:300}.{w:342}]\n"),
    ("jwt-in-base64", "token: [ZXlKaGJHY2lPaUpTVXpJ{a:700}==]"),
    (
        "kubernetes-bootstrap-token",
        "kubeadm join 10.0.0.1:6443 --token [{z:6}.{z:16}] --discovery-token-ca-cert-hash sha256:{x:64}",
    ),
    ("kubernetes-bootstrap-secret", "token-secret: [{z:16}]"),
    ("openshift-token", "oc login --token=[sha256~{w:43}] --server=https://api:6443"),
    ("kubeconfig-key", "    client-key-data: [LS0tLS1CRUdJTiBSU0Eg{b:400}==]\n"),
    (
        "kubernetes-secret",
        "apiVersion: v1\ndata:\n[  password: {a:12}=\n  username: {a:8}\n]kind: Secret\nmetadata:\n  name: db\n",
    ),
    (
        "kubernetes-secret",
        "kind: Secret\nmetadata:\n  name: db\nstringData:\n[  password: hunter22-{a:4}\n]",
    ),
    (
        "kubernetes-secret",
        "{\"apiVersion\":\"v1\",\"data\":{[\"password\":\"{a:12}=\"]},\"kind\":\"Secret\"}",
    ),
    (
        "private-key",
        "[-----BEGIN RSA PRIVATE KEY-----\n{b:64}\n{b:64}\n{b:30}==\n-----END RSA PRIVATE KEY-----]\n",
    ),
    (
        "private-key",
        "\"private_key\": \"[-----BEGIN PRIVATE KEY-----\\n{b:64}\\n{b:64}\\n-----END PRIVATE KEY-----]\\n\",",
    ),
    ("private-key", "[-----BEGIN OPENSSH PRIVATE KEY-----\n{b:70}\n{b:70}]\n(cut off)"),
    ("private-key-in-base64", "tls.key: [LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0t{b:300}]"),
    ("putty-private-key", "Private-Lines: 2\n[{b:64}\n{b:42}==]\nPrivate-MAC: {x:64}"),
    ("age-key", "[AGE-SECRET-KEY-1{U:58}]"),
    (
        "database-url",
        "DATABASE_URL=postgres://app:[{a:6}$!{a:3}]@db.shop.svc:5432/shop?sslmode=require",
    ),
    (
        "database-url",
        "redis://:[{a:20}]@cache:6379/0 and mongodb+srv://root:hunter2@cluster0.example.net",
    ),
    ("url-password", "https://deploy:[{a:20}]@git.example.com/acme/x.git"),
    (
        "database-password",
        "Server=tcp:acme.database.windows.net,1433;Initial Catalog=shop;User ID=app;Password=[{a:8}!{a:4}];Encrypt=True",
    ),
    ("database-password", "host=db port=5432 user=app password=[{a:14}] dbname=shop"),
    ("database-variable", "PGPASSWORD=[{a:12}] psql -h db"),
    ("database-variable", "- name: POSTGRES_PASSWORD\n  value: \"[{a:12}]\"\n"),
    ("database-variable", "| MYSQL_ROOT_PASSWORD | `[{a:12}]` |"),
    ("planetscale-token", "user {z:12} with [pscale_pw_{w:43}]"),
    ("npm-token", "NPM_TOKEN=[npm_{a:36}]"),
    ("npmrc-token", "//registry.npmjs.org/:_authToken=[{x:8}-{x:4}-{x:12}]"),
    ("pypi-token", "TWINE_PASSWORD=[pypi-AgEIcHlwaS5vcmc{w:150}]"),
    ("docker-token", "docker login -u acme -p [dckr_pat_{w:27}]"),
    ("docker-swarm-token", "docker swarm join --token [SWMTKN-1-{z:50}-{z:25}] 10.0.0.1:2377"),
    ("docker-config", "{\"auths\":{\"ghcr.io\":{\"auth\":\"[{a:40}==]\"}}}"),
    ("rubygems-key", ":rubygems_api_key: [rubygems_{x:48}]"),
    ("crates-io-token", "token = \"[cio{a:32}]\""),
    ("jfrog-token", "X-JFrog-Art-Api is [AKCp{a:69}]"),
    ("vault-token", "VAULT_TOKEN=[hvs.{w:90}]"),
    ("vault-token", "VAULT_TOKEN=[s.{a:24}]"),
    ("doppler-token", "DOPPLER_TOKEN=[dp.st.prd.{a:43}]"),
    ("terraform-token", "TF_TOKEN=[{a:14}.atlasv1.{a:67}]"),
    ("grafana-token", "GRAFANA=[glsa_{a:32}_{x:8}]"),
    ("grafana-token", "Bearer [eyJrIjoi{a:90}==]"),
    ("sentry-token", "SENTRY_AUTH_TOKEN=[sntryu_{x:64}]"),
    ("sentry-token", "token [sntryi_{x:64}] of the integration"),
    ("new-relic-key", "NEW_RELIC=[NRAK-{U:27}]"),
    ("new-relic-key", "license_key: [eu01xx{x:30}NRAL]"),
    ("datadog-key", "DD_API_KEY=[{x:32}]"),
    ("stripe-key", "STRIPE=[sk_live_{a:24}]"),
    ("sendgrid-key", "SENDGRID=[SG.{w:22}.{w:43}]"),
    ("twilio-key", "TWILIO=[SK{x:32}]"),
    ("twilio-auth-token", "TWILIO_AUTH_TOKEN=[{x:32}]"),
    ("databricks-token", "DATABRICKS=[dapi{x:32}]"),
    ("databricks-token", "DATABRICKS_CLIENT_SECRET=[dose{x:32}]"),
    ("tailscale-key", "tailscale up --auth-key=[tskey-auth-{a:12}CNTRL-{a:32}]"),
    ("pulumi-token", "PULUMI=[pul-{x:40}]"),
    ("linear-key", "LINEAR=[lin_api_{a:40}]"),
    ("notion-token", "NOTION=[ntn_{a:46}]"),
    ("notion-token", "refresh: [nrt_{a:46}]"),
    ("1password-token", "OP_SERVICE_ACCOUNT_TOKEN=[ops_eyJ{a:300}]"),
    ("authorization-header", "> Authorization: Basic [{a:30}==]\n> Accept: */*"),
    ("authorization-header", "curl -H 'Authorization: Bearer [{a:40}]' https://x"),
    ("authorization-header", "{\"Authorization\": \"Bot [{a:40}]\"}"),
    ("api-key-header", "curl -H \"X-API-Key: [{a:32}]\" https://x"),
];

/// Fills a template in; what is in brackets is the secret.
fn written(template: &str, rng: &mut StdRng) -> (String, Range<usize>) {
    let (mut text, mut range) = (String::new(), 0..0);
    let mut rest = template;
    while let Some(sign) = rest.chars().next() {
        let slot = rest.strip_prefix('{').and_then(|slot| slot.split_once('}')).and_then(
            |(slot, behind)| {
                let (class, length) = slot.split_once(':')?;
                Some((class, length.parse::<usize>().ok()?, behind))
            },
        );
        rest = &rest[sign.len_utf8()..];
        match (sign, slot) {
            (_, Some((class, length, behind))) => {
                let signs: &[u8] = match class {
                    "a" => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
                    "w" => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-",
                    "b" => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
                    "U" => b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
                    "z" => b"abcdefghijklmnopqrstuvwxyz0123456789",
                    "x" => b"0123456789abcdef",
                    "d" => b"123456789",
                    _ => panic!("{class}"),
                };
                // A sign that is no part of a word would end a token early.
                let (all, last) = (signs, &signs[..signs.len().min(62)]);
                for n in 1..=length {
                    let from = if n == length { last } else { all };
                    text.push(char::from(*from.choose(rng).unwrap()));
                }
                rest = behind;
            }
            ('[', None) => range.start = text.len(),
            (']', None) => range.end = text.len(),
            _ => text.push(sign),
        }
    }
    (text, range)
}

#[test]
fn every_kind_of_secret_is_hidden_and_nothing_around_it() {
    let rules = Rules::built_in();
    let mut rng = StdRng::seed_from_u64(6);
    for (rule, template) in WRITTEN {
        for _ in 0..5 {
            let (text, secret) = written(template, &mut rng);
            let hits = rules.hits(&text);
            assert!(
                hits.iter().any(|hit| hit.rule == *rule && hit.range == secret),
                "{rule} finds {:?} in {text:?}, found {hits:?}",
                &text[secret.clone()]
            );
            let after = redacted(&rules, &text);
            assert!(!after.contains(&text[secret.clone()]), "{after}");
            assert!(after.starts_with(&text[..secret.start.min(4)]), "{after}");
            assert_eq!(redacted(&rules, &after), after, "a mark is left alone");
        }
    }
    let written: BTreeSet<&str> = WRITTEN.iter().map(|(rule, _)| *rule).collect();
    let ids: BTreeSet<&str> = rules.ids().collect();
    assert_eq!(written, ids, "each rule has an example");
}

/// How many of a thousand ordinary messages something is found in, and by which rules.
fn found_in_ordinary_messages(rules: &Rules) -> (usize, BTreeMap<&str, usize>) {
    let (mut messages, mut by) = (0, BTreeMap::new());
    for text in (0..1_000).map(message) {
        let hits = rules.find(&text);
        messages += usize::from(!hits.is_empty());
        for hit in hits {
            *by.entry(hit.rule).or_default() += 1;
        }
    }
    (messages, by)
}

#[test]
fn ordinary_messages_are_left_alone() {
    let rules = Rules::built_in();
    let (messages, by) = found_in_ordinary_messages(&rules);
    println!(
        "Herald's own rules: something found in {messages} of 1,000 ordinary messages: {by:?}"
    );
    assert!(messages < 10, "{messages} of 1,000: {by:?}");
    if let Some(file) = gitleaks() {
        let rules = Rules::parse(&file).unwrap();
        let (messages, by) = found_in_ordinary_messages(&rules);
        println!(
            "gitleaks's rules: something found in {messages} of 1,000 ordinary messages: {by:?}"
        );
    }
}

#[test]
fn the_whole_gitleaks_file_loads() {
    let Some(file) = gitleaks() else { return };
    let rules = Rules::parse(&file).unwrap();
    let table: toml::Table = file.parse().unwrap();
    let ids: Vec<&str> = table["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule["id"].as_str().unwrap())
        .collect();
    assert_eq!(rules.ids().collect::<Vec<_>>(), ids, "no rule is left out");
    assert_eq!((rules.len(), rules.for_files()), (222, 1));
    assert_eq!(rules.file("backup/client.p12"), Some("pkcs12-file"));
    assert_eq!(rules.file("report.pdf"), None);
    let both = Rules::built_in_and(&file).unwrap();
    assert_eq!(both.len(), Rules::built_in().len() + 222);
}

/// The same rules without any shortcut: every regex at once, searched by the plainest engine there is, one after the other.
struct Plain {
    rules: Vec<PlainRule>,
    allowed: Vec<toml::Value>,
    /// Of allow-lists, by what they were written as.
    compiled: RefCell<BTreeMap<String, PikeVM>>,
}

struct PlainRule {
    id: String,
    hir: Hir,
    regex: PikeVM,
    entry: toml::Value,
}

fn compile(pattern: &str) -> PikeVM {
    let ascii = syntax::Config::new().unicode(false).utf8(false);
    let build = |pattern: &str| PikeVM::builder().syntax(ascii).build(pattern).ok();
    // Go reads these braces as themselves.
    let braces = [("${(", "$\\{("), ("]+{[", "]+\\{["), ("|{\\d", "|\\{\\d"), ("?{{[", "?\\{\\{[")];
    let plain = braces.iter().fold(pattern.to_owned(), |text, (go, rust)| text.replace(go, rust));
    build(pattern).or_else(|| build(&plain)).unwrap()
}

fn strings<'v>(value: &'v toml::Value, key: &str) -> Vec<&'v str> {
    let list = value.get(key).and_then(toml::Value::as_array);
    list.into_iter().flatten().map(|item| item.as_str().unwrap()).collect()
}

impl Plain {
    fn new(file: &str) -> Self {
        let table: toml::Table = file.parse().unwrap();
        let ascii = syntax::Config::new().unicode(false).utf8(false);
        let rules = table["rules"].as_array().unwrap().iter().filter_map(|entry| {
            let regex = entry.get("regex")?.as_str().unwrap();
            let hir = syntax::parse_with(regex, &ascii).unwrap();
            Some(PlainRule {
                id: entry["id"].as_str().unwrap().to_owned(),
                hir,
                regex: compile(regex),
                entry: entry.clone(),
            })
        });
        let lists = table.get("allowlists").and_then(toml::Value::as_array).into_iter().flatten();
        let allowed = lists.chain(table.get("allowlist")).cloned().collect();
        Self { rules: rules.collect(), allowed, compiled: RefCell::default() }
    }

    fn find(&self, text: &str) -> BTreeSet<(String, usize, usize)> {
        let mut found = BTreeSet::new();
        let lower = text.to_ascii_lowercase();
        for rule in &self.rules {
            let keywords = strings(&rule.entry, "keywords");
            if !keywords.is_empty()
                && !keywords.iter().any(|keyword| lower.contains(&keyword.to_lowercase()))
            {
                continue;
            }
            let mut cache = rule.regex.create_cache();
            for captures in rule.regex.captures_iter(&mut cache, text) {
                let whole = captures.get_match().unwrap().range();
                let group = rule
                    .entry
                    .get("secretGroup")
                    .map(|group| usize::try_from(group.as_integer().unwrap()).unwrap());
                let groups = group.map_or(1..captures.group_len(), |group| group..group + 1);
                let mut secrets = groups
                    .filter_map(|group| captures.get_group(group))
                    .filter(|span| !span.is_empty());
                let secret = secrets.next().map_or_else(
                    || whole.start..whole.start + text[whole.clone()].trim_end_matches('\n').len(),
                    |span| span.range(),
                );
                let secret =
                    text.floor_char_boundary(secret.start)..text.ceil_char_boundary(secret.end);
                let entropy = rule.entry.get("entropy").map_or(0.0, |entropy| {
                    entropy.as_float().unwrap_or_else(|| {
                        f64::from(i32::try_from(entropy.as_integer().unwrap()).unwrap())
                    })
                });
                if entropy > 0.0 && bits(&text[secret.clone()]) <= entropy {
                    continue;
                }
                let lists = rule
                    .entry
                    .get("allowlists")
                    .and_then(toml::Value::as_array)
                    .into_iter()
                    .flatten();
                let matched = &text
                    [text.floor_char_boundary(whole.start)..text.ceil_char_boundary(whole.end)];
                let line = text[..text.floor_char_boundary(whole.start)]
                    .rfind('\n')
                    .map_or(0, |at| at + 1)
                    ..text[whole.end..].find('\n').map_or(text.len(), |at| whole.end + at);
                let passes = self.allowed.iter().chain(lists).any(|list| {
                    self.allows(list, &text[secret.clone()], matched, &text[line.clone()])
                });
                if !passes {
                    found.insert((rule.id.clone(), secret.start, secret.end));
                }
            }
        }
        found
    }

    fn allows(&self, list: &toml::Value, secret: &str, matched: &str, line: &str) -> bool {
        let target = match list.get("regexTarget").and_then(toml::Value::as_str) {
            Some("match") => matched,
            Some("line") => line,
            _ => secret,
        };
        let is_match = |pattern: &&str| {
            let mut compiled = self.compiled.borrow_mut();
            let regex = compiled.entry((*pattern).to_owned()).or_insert_with(|| compile(pattern));
            regex.is_match(&mut regex.create_cache(), target)
        };
        // None of them can hold without a path.
        list.get("condition").is_none()
            && (strings(list, "stopwords")
                .iter()
                .any(|word| secret.to_lowercase().contains(&word.to_lowercase()))
                || strings(list, "regexes").iter().any(is_match))
    }
}

fn bits(text: &str) -> f64 {
    let mut counts = BTreeMap::<char, f64>::new();
    text.chars().for_each(|c| *counts.entry(c).or_default() += 1.0);
    let length = f64::from(u32::try_from(text.len()).unwrap());
    counts.values().map(|count| -count / length * (count / length).log2()).sum()
}

/// A text that a pattern matches, its looks around aside.
fn sample(hir: &Hir, rng: &mut StdRng, text: &mut Vec<u8>) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => text.extend_from_slice(&literal.0),
        HirKind::Class(class) => {
            let all: Vec<u8> = match class {
                Class::Bytes(class) => {
                    class.iter().flat_map(|range| range.start()..=range.end()).collect()
                }
                Class::Unicode(class) => {
                    let signs = class.iter().flat_map(|range| range.start()..=range.end());
                    signs.filter_map(|sign| u8::try_from(sign).ok()).collect()
                }
            };
            let all: Vec<u8> = all.into_iter().filter(u8::is_ascii).collect();
            let plain: Vec<u8> = all.iter().copied().filter(u8::is_ascii_alphanumeric).collect();
            let from = if plain.is_empty() || rng.random_range(0..8) == 0 { &all } else { &plain };
            text.push(*from.choose(rng).unwrap());
        }
        HirKind::Repetition(repetition) => {
            let least = repetition.min;
            let most = repetition.max.unwrap_or(u32::MAX).min(least + 3);
            (0..rng.random_range(least..=most)).for_each(|_| sample(&repetition.sub, rng, text));
        }
        HirKind::Capture(capture) => sample(&capture.sub, rng, text),
        HirKind::Concat(parts) => parts.iter().for_each(|part| sample(part, rng, text)),
        HirKind::Alternation(ways) => sample(ways.choose(rng).unwrap(), rng, text),
    }
}

/// Every rule finds in generated texts, alone and among others, what it finds without shortcuts.
fn loses_nothing(file: &str, each: usize) {
    let (rules, plain) = (Rules::parse(file).unwrap(), Plain::new(file));
    let mut rng = StdRng::seed_from_u64(221);
    let mut texts = Vec::new();
    for rule in &plain.rules {
        let mut tries = 0;
        let mut found = false;
        while tries < each || (!found && tries < 100) {
            tries += 1;
            let mut bytes = Vec::new();
            sample(&rule.hir, &mut rng, &mut bytes);
            let keyword = strings(&rule.entry, "keywords")
                .choose(&mut rng)
                .copied()
                .unwrap_or_default()
                .to_owned();
            let (before, behind) =
                *[("", ""), ("The ", "\nand so on"), ("é ", " é"), ("- `", "`\n"), ("\n", "\n")]
                    .choose(&mut rng)
                    .unwrap();
            let keyword = if rng.random_bool(0.5) {
                format!("{}:\n", keyword.to_uppercase())
            } else {
                String::new()
            };
            let text = format!("{keyword}{before}{}{behind}", String::from_utf8(bytes).unwrap());
            found = found || plain.find(&text).iter().any(|(id, ..)| *id == rule.id);
            texts.push(text);
        }
    }
    let mut hits = BTreeMap::<String, usize>::new();
    let alone = texts.len();
    for n in 0..40 {
        let some: Vec<&String> = (0..4).map(|_| texts[..alone].choose(&mut rng).unwrap()).collect();
        texts.push(format!("{}{}{}\n{}\n{}", some[0], message(n), some[1], some[2], some[3]));
    }
    for text in &texts {
        let found: BTreeSet<(String, usize, usize)> = rules
            .hits(text)
            .into_iter()
            .map(|hit| (hit.rule.to_owned(), hit.range.start, hit.range.end))
            .collect();
        assert_eq!(found, plain.find(text), "{text:?}");
        found.into_iter().for_each(|(rule, ..)| *hits.entry(rule).or_default() += 1);
    }
    let silent: Vec<&String> =
        plain.rules.iter().map(|rule| &rule.id).filter(|id| !hits.contains_key(*id)).collect();
    assert!(silent.is_empty(), "nothing was generated for {silent:?}");
}

#[test]
fn no_match_of_gitleaks_is_lost() {
    if let Some(file) = gitleaks() {
        loses_nothing(&file, 3);
    }
}

#[test]
fn no_match_of_our_own_rules_is_lost() {
    loses_nothing(&own_file(), 4);
}

#[cfg(target_os = "linux")]
/// How long a processor has worked for this thread, in seconds: what else runs does not count.
fn busy() -> f64 {
    // The kernel brings the figure up to date when a thread lets go of its processor.
    std::thread::yield_now();
    let line = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    line.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

#[cfg(target_os = "linux")]
/// How much work a text is, to that of a text of a tenth of it; the least of some tries.
fn growth(rules: &Rules, text: impl Fn(usize) -> String) -> f64 {
    let time = |text: &str| {
        let since = busy();
        std::hint::black_box(rules.hits(text));
        busy() - since
    };
    let (short, long) = (text(2_000), text(20_000));
    // What is compiled at the first look is not counted.
    time(&short);
    let least = |text: &str| (0..2).map(|_| time(text)).fold(f64::INFINITY, f64::min);
    least(&long) / least(&short).max(0.000_1)
}

#[cfg(target_os = "linux")]
#[test]
fn hostile_text_takes_time_by_its_length_and_no_more() {
    // Ours are among them.
    let rules = gitleaks().map_or_else(Rules::built_in, |file| Rules::built_in_and(&file).unwrap());
    for piece in [
        "a",
        "-",
        "api_key_token_secret ",
        "password=",
        "curl -u x ",
        "kind: Secret\ndata:\n",
        "-----BEGIN PRIVATE KEY-----\n",
        "eyJ",
        "eyJaaaaaaaaaaaaa.",
        "://a:",
        "Server=a;",
        "\ndata:\n  a: b\n",
        "[redacted:",
        "token = aZ09bY18cX27dW36eV45fU5 ",
        "AKIAIOSFODNN7EXAMPLE ",
        "MTIzNDU2Nzg5MDEyMzQ1Njc4.",
        "facebook 123456789012345|aaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ] {
        let ratio = growth(&rules, |length| piece.repeat(length / piece.len()));
        assert!(ratio < 25.0, "ten times the text is {ratio:.0} times the work: {piece:?}");
    }
}

#[test]
fn ordinary_messages_hold_none_of_heralds_own_secrets() {
    let mut rng = StdRng::seed_from_u64(8);
    let secrets: Vec<SecretString> =
        (0..20).map(|_| SecretString::from(written("{w:24}", &mut rng).0)).collect();
    let own = Own::new(&secrets);
    let texts: Vec<String> = (0..300).map(message).collect();
    assert!(texts.iter().all(|text| !own.is_in(text)));
    for (text, secret) in texts.iter().zip(secrets.iter().cycle()) {
        let middle = text.floor_char_boundary(text.len() / 2);
        let text = format!("{}{}{}", &text[..middle], secret.expose_secret(), &text[middle..]);
        assert!(own.is_in(&text));
    }
}
