//! What agents write on an ordinary day: a thousand messages without a secret in them, each from a seed.
//!
//! They hold what looks most like one: digests, commits, UUIDs, certificates, signatures, base64, placeholders, names of
//! secrets. The benchmark of the guard reads this file too.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// The message number `seed`: of a kind of its own in turn, from one paragraph to a few KB.
pub fn message(seed: u64) -> String {
    let mut agent = Agent { rng: StdRng::seed_from_u64(seed) };
    let kinds = Agent::KINDS;
    let first = kinds[usize::try_from(seed).unwrap() % kinds.len()];
    let mut text = String::new();
    if agent.chance(60) {
        text += &agent.opening();
    }
    text += &first(&mut agent);
    for _ in 0..agent.rng.random_range(0..3) {
        text.push('\n');
        text += &kinds.choose(&mut agent.rng).unwrap()(&mut agent);
    }
    if agent.chance(50) {
        text += &agent.closing();
    }
    text
}

const APPS: &[&str] = &[
    "checkout",
    "cart",
    "payments-api",
    "auth-service",
    "token-issuer",
    "keycloak",
    "ingress-nginx",
    "argocd-server",
    "external-secrets",
    "vault-agent-injector",
    "sealed-secrets-controller",
    "billing-worker",
    "search",
    "mailer",
    "credential-helper",
    "api-gateway",
    "kagent-controller",
    "grafana",
    "prometheus-operated",
    "postgres-primary",
];
const SPACES: &[&str] =
    &["shop", "kube-system", "payments", "default", "monitoring", "argocd", "kagent", "data-eu"];
const WORDS: &[&str] = &[
    "latency",
    "rollout",
    "memory",
    "the node",
    "a restart",
    "the certificate",
    "token refresh",
    "password rotation",
    "the API key",
    "access",
    "authentication",
    "the secret's name",
    "retries",
    "the index",
    "a deadlock",
    "backoff",
];
const LEVELS: &[&str] = &["INFO", "WARN", "ERROR", "DEBUG"];

struct Agent {
    rng: StdRng,
}

impl Agent {
    const KINDS: &[fn(&mut Self) -> String] = &[
        Self::report,
        Self::pods,
        Self::describe,
        Self::events,
        Self::json_logs,
        Self::access_log,
        Self::klog,
        Self::panic,
        Self::java,
        Self::python,
        Self::commits,
        Self::review,
        Self::images,
        Self::uuids,
        Self::config_map,
        Self::helm,
        Self::sql,
        Self::pod_json,
        Self::alert,
        Self::terraform,
        Self::certificate,
        Self::ssh_key,
        Self::checksums,
        Self::lock_file,
        Self::data_url,
        Self::secret_list,
        Self::environment,
        Self::curl,
        Self::how_to,
        Self::trace,
        Self::connections,
        Self::prose,
        Self::cloud_ids,
        Self::chat_links,
        Self::docker_build,
        Self::promql,
        Self::rbac,
        Self::ci_log,
        Self::signature,
        Self::diff,
        Self::rotation,
        Self::cookies,
        Self::table,
        Self::helm_values,
    ];

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from.choose(&mut self.rng).unwrap()
    }
    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }
    fn number(&mut self, below: u64) -> u64 {
        self.rng.random_range(0..below)
    }
    fn of(&mut self, signs: &[u8], length: usize) -> String {
        (0..length).map(|_| char::from(*signs.choose(&mut self.rng).unwrap())).collect()
    }
    fn hex(&mut self, length: usize) -> String {
        self.of(b"0123456789abcdef", length)
    }
    fn base64(&mut self, bytes: usize) -> String {
        use base64::Engine;
        let bytes: Vec<u8> = (0..bytes).map(|_| self.rng.random()).collect();
        base64::engine::general_purpose::STANDARD.encode(bytes)
    }
    fn uuid(&mut self) -> String {
        let bytes: [u8; 16] = self.rng.random();
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }
    fn pod(&mut self) -> String {
        let app = self.pick(APPS);
        let set = self.of(b"456789bcdfghjklmnpqrstvwxz", 9);
        format!("{app}-{set}-{}", self.of(b"2456789bcdfghjklmnpqrstvwxz", 5))
    }
    fn time(&mut self) -> String {
        let (day, hour, minute, second) =
            (self.number(28) + 1, self.number(24), self.number(60), self.number(60));
        format!("2026-11-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", self.number(1000))
    }
    fn lines(
        &mut self,
        least: usize,
        most: usize,
        mut line: impl FnMut(&mut Self) -> String,
    ) -> String {
        let count = self.rng.random_range(least..=most);
        (0..count).map(|_| line(self) + "\n").collect()
    }
    fn fenced(language: &str, text: &str) -> String {
        format!("```{language}\n{text}```\n")
    }

    fn opening(&mut self) -> String {
        let (app, word) = (self.pick(APPS), self.pick(WORDS));
        match self.number(6) {
            0 => format!("**Update on `{app}`**: {word} looks fine now.\n\n"),
            1 => format!("I looked into {word} for *{app}*. Here is what I found:\n\n"),
            2 => format!("## {app}: {word}\n\n"),
            3 => format!("@oncall the cause of the alert on `{app}` was {word}; details below.\n"),
            4 => format!("> can you check {word} on {app}?\n\nYes: \n"),
            _ => format!("✅ Done. {app} is healthy, {word} was the problem.\n\n"),
        }
    }

    fn closing(&mut self) -> String {
        let (app, word) = (self.pick(APPS), self.pick(WORDS));
        match self.number(4) {
            0 => format!(
                "\nNext step: watch {word} for an hour. Dashboard: https://grafana.example.com/d/{}/{app}?orgId=1&from=now-1h&var-token=all\n",
                self.of(b"abcdefghijkmnpqrstuvwxyzABCDEFGH0123456789_-", 9)
            ),
            1 => format!("\nNo secret was changed; {word} stays as it is. Shall I go on?\n"),
            2 => format!("\nTicket OPS-{}, run `{}`.\n", self.number(9000), self.uuid()),
            _ => format!(
                "\nSee {word} in the [runbook](https://wiki.example.org/x/{app}#{}).\n",
                self.hex(8)
            ),
        }
    }

    fn report(&mut self) -> String {
        let (app, space) = (self.pick(APPS), self.pick(SPACES));
        format!(
            "Deployment **{app}** in `{space}`: {} of 12 pods ready.\n\n- error rate 0.{:02} %\n- p95 **{} ms**\n  - `GET /api/v1/tokens` {} ms\n  - `POST /auth/session` {} ms\n1. no restarts\n2. no warnings\n",
            self.number(13),
            self.number(100),
            self.number(900),
            self.number(300),
            self.number(300)
        )
    }

    fn pods(&mut self) -> String {
        let rows = self.lines(2, 14, |a| {
            format!("{:<52} 1/1     {}   {}          {}d{}h   10.{}.{}.{}   ip-10-0-{}-{}.eu-west-1.compute.internal", a.pod(), a.pick(&["Running", "CrashLoopBackOff", "Pending", "Completed"]), a.number(30), a.number(90), a.number(24), a.number(255), a.number(255), a.number(255), a.number(255), a.number(255))
        });
        Self::fenced(
            "console",
            &format!(
                "$ kubectl get pods -n {} -o wide\nNAME   READY   STATUS   RESTARTS   AGE   IP   NODE\n{rows}",
                self.pick(SPACES)
            ),
        )
    }

    fn describe(&mut self) -> String {
        let (pod, app) = (self.pod(), self.pick(APPS));
        let text = format!(
            "Name:             {pod}\nService Account:  {app}\nAnnotations:      checksum/secret: {}\n                  kubectl.kubernetes.io/restartedAt: {}\nContainers:\n  {app}:\n    Container ID:  containerd://{}\n    Image:         ghcr.io/acme/{app}:v1.{}.{}\n    Image ID:      ghcr.io/acme/{app}@sha256:{}\n    Environment:\n      DB_PASSWORD:   <set to the key 'password' in secret '{app}-db'>  Optional: false\n      API_KEY:       <set to the key 'api-key' in secret '{app}'>  Optional: true\n      POD_IP:         (v1:status.podIP)\n    Mounts:\n      /var/run/secrets/kubernetes.io/serviceaccount from kube-api-access-{} (ro)\nVolumes:\n  kube-api-access:\n    Type:                    Projected\n    TokenExpirationSeconds:  3607\nQoS Class:                   Burstable\n",
            self.hex(64),
            self.time(),
            self.hex(64),
            self.number(40),
            self.number(40),
            self.hex(64),
            self.of(b"bcdfghjklmnpqrstvwxz2456789", 5)
        );
        Self::fenced("", &text)
    }

    fn events(&mut self) -> String {
        let rows = self.lines(2, 8, |a| {
            let (pod, what) = (
                a.pod(),
                a.pick(&[
                    "Back-off restarting failed container",
                    "MountVolume.SetUp failed for volume \"tls\" : secret \"web-tls\" not found",
                    "Failed to pull image: unauthorized: authentication required",
                    "Readiness probe failed: HTTP probe failed with statuscode: 503",
                    "Error: couldn't find key api-token in Secret shop/mailer",
                    "Successfully assigned pod",
                ]),
            );
            format!(
                "{}m   Warning   {}   pod/{pod}   {what}",
                a.number(59),
                a.pick(&["BackOff", "FailedMount", "Unhealthy", "Failed", "Scheduled"])
            )
        });
        Self::fenced("", &rows)
    }

    fn json_logs(&mut self) -> String {
        let rows = self.lines(1, 8, |a| {
            format!(
                r#"{{"ts":"{}","level":"{}","msg":"{}","trace_id":"{}","span_id":"{}","request_id":"{}","user":"u-{}","path":"/api/v{}/tokens/{}","status":{},"key":"cart:{}"}}"#,
                a.time(), a.pick(LEVELS).to_lowercase(), a.pick(&["token expired", "refreshed access token", "invalid api key", "request done", "cache miss for key", "authorization denied"]),
                a.hex(32), a.hex(16), a.uuid(), a.number(100_000), a.number(3), a.uuid(), a.number(500), a.hex(24)
            )
        });
        Self::fenced("json", &rows)
    }

    fn access_log(&mut self) -> String {
        let rows = self.lines(2, 8, |a| {
            format!(
                "10.{}.{}.{} - - [{:02}/Nov/2026:{:02}:12:33 +0000] \"GET /{}/{}?page={}&sort=key&etag={} HTTP/1.1\" {} {} \"https://shop.example.com/\" \"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\" {} 0.0{} [{}] {}",
                a.number(255), a.number(255), a.number(255), a.number(28) + 1, a.number(24), a.pick(APPS), a.number(10_000), a.number(9), a.hex(32), a.number(500), a.number(90_000), a.number(900), a.number(90), a.pick(SPACES), a.hex(32)
            )
        });
        Self::fenced("", &rows)
    }

    fn klog(&mut self) -> String {
        let rows = self.lines(2, 7, |a| {
            format!(
                "{}11{:02} {:02}:{:02}:00.{:06}       1 {}:{}] {} {}=\"{}/{}\" resourceVersion=\"{}\" err=\"{}\"",
                a.pick(&["I", "W", "E"]), a.number(28) + 1, a.number(24), a.number(60), a.number(1_000_000), a.pick(&["controller.go", "secret_manager.go", "token_controller.go", "reflector.go"]), a.number(900),
                a.pick(&["\"Reconciling\"", "\"Unable to rotate token\"", "\"Syncing secret\""]), a.pick(&["pod", "secret", "serviceAccount"]), a.pick(SPACES), a.pod(), a.number(900_000_000),
                a.pick(&["context deadline exceeded", "secrets \\\"registry-credentials\\\" not found", "the server has asked for the client to provide credentials"])
            )
        });
        Self::fenced("", &rows)
    }

    fn panic(&mut self) -> String {
        let frames = self.lines(3, 8, |a| {
            format!(
                "github.com/acme/{}/internal/{}.(*{}).{}(0xc000{}, {{0x{}, 0x{}}})\n\t/go/pkg/mod/github.com/acme/auth@v1.{}.0/token_source.go:{} +0x{}",
                a.pick(APPS), a.pick(&["auth", "store", "token", "keyring"]), a.pick(&["Server", "TokenSource", "KeyCache"]), a.pick(&["Handle", "Token", "refreshAccessToken"]), a.hex(6), a.hex(7), a.hex(2), a.number(20), a.number(900), a.hex(3)
            )
        });
        Self::fenced(
            "",
            &format!(
                "panic: runtime error: invalid memory address or nil pointer dereference\n[signal SIGSEGV: segmentation violation code=0x1 addr=0x{} pc=0x{}]\n\ngoroutine {} [running]:\n{frames}",
                self.hex(2),
                self.hex(6),
                self.number(900)
            ),
        )
    }

    fn java(&mut self) -> String {
        let frames = self.lines(4, 10, |a| {
            format!(
                "\tat {}.{}({}.java:{}) ~[{}-{}.{}.jar:?]",
                a.pick(&[
                    "org.springframework.security.oauth2.client.token",
                    "com.zaxxer.hikari.pool",
                    "io.jsonwebtoken.impl",
                    "com.acme.auth.ApiKeyFilter"
                ]),
                a.pick(&["getToken", "doFilter", "parseClaimsJws", "getConnection"]),
                a.pick(&["TokenService", "HikariPool", "DefaultJwtParser"]),
                a.number(900),
                a.pick(&["spring-security-core", "jjwt-impl"]),
                a.number(7),
                a.number(30)
            )
        });
        Self::fenced(
            "",
            &format!(
                "io.jsonwebtoken.ExpiredJwtException: JWT expired at {}. Current time: {}, a difference of {} milliseconds.\n{frames}Caused by: java.sql.SQLTransientConnectionException: HikariPool-1 - Connection is not available, request timed out after 30000ms.\n",
                self.time(),
                self.time(),
                self.number(90_000)
            ),
        )
    }

    fn python(&mut self) -> String {
        let text = format!(
            "Traceback (most recent call last):\n  File \"/app/{}/client.py\", line {}, in get_token\n    token = self._credentials.get_token(scope)\n  File \"/usr/local/lib/python3.12/site-packages/requests/adapters.py\", line {}, in send\n    raise ConnectionError(e, request=request)\nrequests.exceptions.ConnectionError: HTTPSConnectionPool(host='{}.{}.svc.cluster.local', port=8443): Max retries exceeded with url: /oauth/token (Caused by NewConnectionError('<urllib3.connection.HTTPSConnection object at 0x7f{}>'))\nKeyError: 'api_key'\n",
            self.pick(APPS),
            self.number(400),
            self.number(700),
            self.pick(APPS),
            self.pick(SPACES),
            self.hex(10)
        );
        Self::fenced("python", &text)
    }

    fn commits(&mut self) -> String {
        let rows = self.lines(2, 9, |a| {
            let length = if a.chance(50) { 40 } else { 7 };
            format!(
                "{} {}: {} (#{})",
                a.hex(length),
                a.pick(&["fix", "feat", "chore(deps)"]),
                a.pick(&[
                    "rotate api key without a restart",
                    "bump golang.org/x/crypto",
                    "drop the token from the log",
                    "add secret store",
                    "key by tenant"
                ]),
                a.number(4000)
            )
        });
        Self::fenced("", &rows)
    }

    fn review(&mut self) -> String {
        format!(
            "PR [#{}](https://github.com/acme/{}/pull/{}) at {}: approve.\n\n- `src/auth/token.rs:{}`: `let api_key = config.api_key.clone();` can borrow\n- `password_hash` should use argon2id, see https://github.com/acme/{}/blob/{}/docs/keys.md#L{}\n- test `token_is_refreshed_before_it_expires` is flaky\n",
            self.number(900),
            self.pick(APPS),
            self.number(900),
            self.hex(40),
            self.number(400),
            self.pick(APPS),
            self.hex(40),
            self.number(90)
        )
    }

    fn images(&mut self) -> String {
        self.lines(2, 7, |a| {
            format!(
                "- `registry.example.com:5000/{}/{}:{}.{}.{}@sha256:{}` ({} MB)",
                a.pick(SPACES),
                a.pick(APPS),
                a.number(9),
                a.number(30),
                a.number(30),
                a.hex(64),
                a.number(900)
            )
        })
    }

    fn uuids(&mut self) -> String {
        self.lines(2, 9, |a| {
            let (id, other) = (a.uuid(), a.uuid().to_uppercase());
            format!(
                "* {} `{id}` -> {other} ({})",
                a.pick(&["tenant", "session", "key id", "client_id", "token id", "correlation"]),
                a.pick(&["ok", "gone", "moved"])
            )
        })
    }

    fn config_map(&mut self) -> String {
        let bytes = 40 + usize::try_from(self.number(300)).unwrap();
        let text = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {}\n  namespace: {}\n  uid: {}\n  resourceVersion: \"{}\"\nbinaryData:\n  favicon.ico: {}\ndata:\n  LOG_LEVEL: info\n  KEY_PREFIX: cart\n  TOKEN_TTL: 15m\n  application.yaml: |\n    auth:\n      issuer: https://login.example.com/realms/{}\n      token-endpoint: /protocol/openid-connect/token\n",
            self.pick(APPS),
            self.pick(SPACES),
            self.uuid(),
            self.number(900_000_000),
            self.base64(bytes),
            self.pick(SPACES)
        );
        Self::fenced("yaml", &text)
    }

    fn helm(&mut self) -> String {
        let rows = self.lines(1, 6, |a| format!("{:<26}{:<14}{:<10}2026-11-{:02} 09:12:{:02}.{} +0000 UTC deployed  {}-{}.{}.{}   v{}.{}", a.pick(APPS), a.pick(SPACES), a.number(60), a.number(28) + 1, a.number(60), a.number(999_999_999), a.pick(APPS), a.number(9), a.number(30), a.number(30), a.number(9), a.number(30)));
        Self::fenced(
            "",
            &format!(
                "NAME   NAMESPACE   REVISION   UPDATED   STATUS   CHART   APP VERSION\n{rows}sh.helm.release.v1.{}.v{}\n",
                self.pick(APPS),
                self.number(90)
            ),
        )
    }

    fn sql(&mut self) -> String {
        let rows = self.lines(1, 6, |a| {
            format!(
                " {} | {} | {}@example.com | $argon2id$v=19$m=… | {}",
                a.number(90_000),
                a.uuid(),
                a.pick(WORDS).replace(' ', "."),
                a.time()
            )
        });
        Self::fenced(
            "sql",
            &format!(
                "SELECT id, token_id, email, password_hash, created_at FROM users WHERE api_key_id = {} AND deleted_at IS NULL ORDER BY key LIMIT 10;\n{rows}({} rows)\n",
                self.number(900),
                self.number(10)
            ),
        )
    }

    fn pod_json(&mut self) -> String {
        let text = format!(
            r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{}","uid":"{}","resourceVersion":"{}","labels":{{"pod-template-hash":"{}","controller-revision-hash":"{}"}},"annotations":{{"cni.projectcalico.org/containerID":"{}"}}}},"spec":{{"serviceAccountName":"{}","imagePullSecrets":[{{"name":"registry-credentials"}}],"containers":[{{"image":"acme/{}@sha256:{}","env":[{{"name":"TOKEN","valueFrom":{{"secretKeyRef":{{"name":"{}","key":"token"}}}}}}]}}]}}}}"#,
            self.pod(),
            self.uuid(),
            self.number(900_000_000),
            self.hex(10),
            self.hex(10),
            self.hex(64),
            self.pick(APPS),
            self.pick(APPS),
            self.hex(64),
            self.pick(APPS)
        );
        Self::fenced("json", &(text + "\n"))
    }

    fn alert(&mut self) -> String {
        format!(
            "🔥 **[FIRING:{}] {}** `{}`\nlabels: alertname={}, namespace={}, pod={}, severity=critical\nfingerprint: {}\nstarted: {}\nsilence: https://alertmanager.example.com/#/silences/new?filter=%7Balertname%3D%22KubePodCrashLooping%22%2Cpod%3D%22{}%22%7D\n",
            self.number(9) + 1,
            self.pick(&[
                "KubePodCrashLooping",
                "TokenExpiresSoon",
                "SecretNotSynced",
                "HighLatency"
            ]),
            self.pick(APPS),
            self.pick(&["KubePodCrashLooping", "SecretNotSynced"]),
            self.pick(SPACES),
            self.pod(),
            self.hex(16),
            self.time(),
            self.pod()
        )
    }

    fn terraform(&mut self) -> String {
        let text = format!(
            "  # aws_secretsmanager_secret.{} will be created\n  + resource \"aws_secretsmanager_secret\" \"{}\" {{\n      + arn                     = (known after apply)\n      + kms_key_id              = \"arn:aws:kms:eu-west-1:{:012}:key/{}\"\n      + name                    = \"prod/{}/db\"\n      + recovery_window_in_days = 30\n    }}\n  ~ password      = (sensitive value)\n  ~ master_password = (sensitive value)\n  ~ user_data     = \"{}\" -> (known after apply)\n  ~ source_code_hash = \"{}\"\n\nPlan: {} to add, 1 to change, 0 to destroy.\n",
            self.pick(APPS).replace('-', "_"),
            self.pick(APPS).replace('-', "_"),
            self.number(999_999_999_999),
            self.uuid(),
            self.pick(APPS),
            self.hex(40),
            self.base64(32),
            self.number(9)
        );
        Self::fenced("hcl", &text)
    }

    fn certificate(&mut self) -> String {
        let body = self.lines(6, 14, |a| a.base64(48));
        Self::fenced(
            "",
            &format!(
                "subject=CN = {}.example.com\nissuer=C = US, O = Let's Encrypt, CN = R11\nserial={}\nSHA256 Fingerprint={}\n-----BEGIN CERTIFICATE-----\nMIIE{}\n{body}-----END CERTIFICATE-----\ntls.crt: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUU{}\n",
                self.pick(APPS),
                self.hex(36).to_uppercase(),
                (0..32).map(|_| self.hex(2).to_uppercase()).collect::<Vec<_>>().join(":"),
                self.base64(45),
                self.base64(120)
            ),
        )
    }

    fn ssh_key(&mut self) -> String {
        format!(
            "The deploy key of `{}` is now `ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{} deploy@{}` (SHA256:{}). Its private key stays in the vault.\n",
            self.pick(APPS),
            self.base64(33),
            self.pick(APPS),
            self.base64(32).trim_end_matches('=')
        )
    }

    fn checksums(&mut self) -> String {
        let rows = self.lines(2, 7, |a| {
            let length = *[32, 40, 64, 128].choose(&mut a.rng).unwrap();
            format!(
                "{}  {}_{}.{}_linux_amd64.tar.gz",
                a.hex(length),
                a.pick(APPS),
                a.number(9),
                a.number(30)
            )
        });
        Self::fenced("", &rows)
    }

    fn lock_file(&mut self) -> String {
        let rows = self.lines(1, 5, |a| format!("    \"node_modules/{}\": {{\n      \"version\": \"{}.{}.0\",\n      \"resolved\": \"https://registry.npmjs.org/{}/-/x-{}.tgz\",\n      \"integrity\": \"sha512-{}\"\n    }},", a.pick(&["jsonwebtoken", "keyv", "auth-header", "@octokit/auth-token"]), a.number(9), a.number(30), a.pick(&["jsonwebtoken", "keyv"]), a.number(9), a.base64(64)));
        Self::fenced(
            "json",
            &format!(
                "{rows}checksum = \"{}\"\ngolang.org/x/crypto v0.{}.0 h1:{}\n",
                self.hex(64),
                self.number(40),
                self.base64(32)
            ),
        )
    }

    fn data_url(&mut self) -> String {
        let bytes = 60 + usize::try_from(self.number(400)).unwrap();
        format!(
            "Here is the graph: ![p95](data:image/png;base64,iVBORw0KGgo{})\n",
            self.base64(bytes)
        )
    }

    fn secret_list(&mut self) -> String {
        let rows = self.lines(2, 8, |a| {
            format!(
                "{:<44}{:<40}{:<6}{}d",
                format!(
                    "{}-{}",
                    a.pick(APPS),
                    a.pick(&["token", "credentials", "api-key", "tls", "db-password"])
                ),
                a.pick(&[
                    "Opaque",
                    "kubernetes.io/tls",
                    "kubernetes.io/dockerconfigjson",
                    "kubernetes.io/service-account-token",
                    "bootstrap.kubernetes.io/token"
                ]),
                a.number(9),
                a.number(900)
            )
        });
        Self::fenced(
            "",
            &format!(
                "$ kubectl get secrets -n {}\nNAME   TYPE   DATA   AGE\n{rows}\nName:         bootstrap-token-{}\nType:  Opaque\n\nData\n====\npassword:  {} bytes\ntoken:     {} bytes\nca.crt:    1107 bytes\n",
                self.pick(SPACES),
                self.of(b"abcdefgh0123456789", 6),
                self.number(40),
                self.number(1200)
            ),
        )
    }

    fn environment(&mut self) -> String {
        let text = format!(
            "LOG_LEVEL=debug\nAPI_URL=https://{}.{}.svc.cluster.local:8443/api/v1\nAPI_KEY_FILE=/etc/secrets/api-key\nTOKEN_PATH=/var/run/secrets/kubernetes.io/serviceaccount/token\nPOSTGRES_PASSWORD=$(DB_PASSWORD)\nAWS_ROLE_ARN=arn:aws:iam::{:012}:role/{}\nAWS_WEB_IDENTITY_TOKEN_FILE=/var/run/secrets/eks.amazonaws.com/serviceaccount/token\nGIT_COMMIT={}\nSECRET_NAME={}-db\nSESSION_SECRET=********\nPASSWORD=<redacted>\n",
            self.pick(APPS),
            self.pick(SPACES),
            self.number(999_999_999_999),
            self.pick(APPS),
            self.hex(40),
            self.pick(APPS)
        );
        Self::fenced("sh", &text)
    }

    fn curl(&mut self) -> String {
        Self::fenced(
            "sh",
            &format!(
                "curl -sS -H \"Authorization: Bearer $TOKEN\" https://{}.example.com/api/v1/{}/{} | jq .\ncurl -u \"$USER:$PASSWORD\" -H 'X-API-Key: ${{API_KEY}}' https://api.example.com/v2\ncurl -H \"Authorization: Bearer <your-token>\" -H \"Content-Type: application/json\" -d '{{\"key\":\"{}\"}}' http://localhost:8080\n",
                self.pick(APPS),
                self.pick(SPACES),
                self.uuid(),
                self.pick(APPS)
            ),
        )
    }

    fn how_to(&mut self) -> String {
        format!(
            "To give `{}` a token:\n\n1. create one at https://github.com/settings/tokens, it begins with `ghp_`\n2. `kubectl create secret generic {}-token --from-literal=token=\"$GITHUB_TOKEN\" -n {}`\n3. `export OPENAI_API_KEY=sk-...` or `ANTHROPIC_API_KEY=sk-ant-...`, `SLACK_BOT_TOKEN=xoxb-your-token`\n4. `export AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE` and `AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY`\n5. in `values.yaml`: `auth: {{ existingSecret: {}-token, key: token }}`\n",
            self.pick(APPS),
            self.pick(APPS),
            self.pick(SPACES),
            self.pick(APPS)
        )
    }

    fn trace(&mut self) -> String {
        self.lines(2, 6, |a| {
            format!(
                "traceparent: 00-{}-{}-01, x-request-id: {}, etag: W/\"{}\", {} {} ms",
                a.hex(32),
                a.hex(16),
                a.uuid(),
                a.hex(32),
                a.pick(APPS),
                a.number(900)
            )
        })
    }

    fn connections(&mut self) -> String {
        format!(
            "`{}` cannot connect: `dial tcp 10.{}.{}.{}:5432: connect: connection refused` (postgres://app@{}.{}.svc:5432/shop?sslmode=require). The URL in the secret is `postgres://app:***@db:5432/shop`, redis is `redis://:${{REDIS_PASSWORD}}@cache:6379/0`, and the broker `amqp://{}:5672/%2f`.\nhttps://user@git.example.com/acme/{}.git, ssh://git@git.example.com:2222/acme/x.git, ops@example.com\nFATAL:  password authentication failed for user \"app\"\nhost=db.{}.svc port=5432 user=app password=xxxxxxxx dbname=shop; Server=tcp:db;User Id=app;Password=***;\n",
            self.pick(APPS),
            self.number(255),
            self.number(255),
            self.number(255),
            self.pick(APPS),
            self.pick(SPACES),
            self.pick(APPS),
            self.pick(APPS),
            self.pick(SPACES)
        )
    }

    fn prose(&mut self) -> String {
        let (app, word) = (self.pick(APPS), self.pick(WORDS));
        match self.number(5) {
            0 => format!(
                "Der Schlüssel von {app} wurde erneuert, {word} läuft wieder; das Passwort liegt im Tresor. Schöne Grüße 🌻\n"
            ),
            1 => format!(
                "{app} のトークンを更新しました。{word} は正常です。🔑 パスワード：変更なし\n"
            ),
            2 => format!(
                "The token bucket allows {} requests a second per API key; {word} is unaffected. Authentication: unchanged. Access: read-only. Secret: none. Password: none needed. Key: see above.\n",
                self.number(900)
            ),
            3 => format!(
                "Key points:\n- **Access**: {word}\n- **Auth**: OIDC via {app}\n- **Token lifetime**: 15 minutes\n- **Key rotation**: every 90 days, next on 2026-12-{:02}\n- **Password policy**: unchanged\n",
                self.number(28) + 1
            ),
            _ => format!(
                "I rotated nothing. The secret `{app}-credentials` has the keys `username` and `password`, last changed {} days ago. L'accès à {app} est rétabli : {word}.\n",
                self.number(400)
            ),
        }
    }

    fn cloud_ids(&mut self) -> String {
        self.lines(2, 6, |a| {
            let account = a.number(999_999_999_999);
            match a.number(6) {
                0 => format!("- i-0{} in subnet-0{}, ami-0{}", a.hex(16), a.hex(16), a.hex(16)),
                1 => format!("- arn:aws:secretsmanager:eu-west-1:{account:012}:secret:prod/{}/db-{}", a.pick(APPS), a.of(b"ABCDEFGHIJKabcdefghijk", 6)),
                2 => format!("- principal AROA{}:{}, key arn:aws:kms:eu-west-1:{account:012}:key/{}", a.of(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 17), a.pick(APPS), a.uuid()),
                3 => format!("- /subscriptions/{}/resourceGroups/{}/providers/Microsoft.KeyVault/vaults/{}", a.uuid(), a.pick(SPACES), a.pick(APPS)),
                4 => format!("- projects/acme-prod-{}/secrets/{}/versions/{}, {}@acme-prod.iam.gserviceaccount.com", a.number(900_000), a.pick(APPS), a.number(40), a.pick(APPS)),
                _ => format!("- https://sqs.eu-west-1.amazonaws.com/{account:012}/{}, x-amz-request-id {}, x-amz-id-2: {}", a.pick(APPS), a.of(b"ABCDEFGHJKMNPQRSTVWXYZ0123456789", 16), a.base64(56)),
            }
        })
    }

    fn chat_links(&mut self) -> String {
        format!(
            "Thread: https://acme.slack.com/archives/C0{}/p17{}?thread_ts=17{}.{} and https://discord.com/channels/{}/{}/{}, https://t.me/c/{}/{}. Asked by <@U0{}>.\n",
            self.of(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", 9),
            self.number(99_999_999_999_999),
            self.number(99_999_999),
            self.number(999_999),
            self.number(900_000_000_000_000_000) + 100_000_000_000_000_000,
            self.number(900_000_000_000_000_000) + 100_000_000_000_000_000,
            self.number(900_000_000_000_000_000) + 100_000_000_000_000_000,
            self.number(9_999_999_999),
            self.number(900),
            self.of(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", 9)
        )
    }

    fn docker_build(&mut self) -> String {
        let rows = self.lines(3, 8, |a| {
            format!(
                "#{} [{}/9] {}\n#{} sha256:{} {}.{}MB / 88.1MB {}.{}s done",
                a.number(20),
                a.number(9),
                a.pick(&[
                    "RUN --mount=type=secret,id=npm_token npm ci",
                    "COPY . .",
                    "FROM docker.io/library/rust:1.95",
                    "RUN cargo build --locked --release"
                ]),
                a.number(20),
                a.hex(64),
                a.number(80),
                a.number(90),
                a.number(30),
                a.number(9)
            )
        });
        Self::fenced("", &format!("{rows}#20 writing image sha256:{}\n", self.hex(64)))
    }

    fn promql(&mut self) -> String {
        Self::fenced(
            "promql",
            &format!(
                "histogram_quantile(0.95, sum by (le) (rate(http_request_duration_seconds_bucket{{app=\"{}\",key!=\"\",token=~\".+\"}}[5m])))\nkube_secret_info{{namespace=\"{}\",secret=\"{}\"}} == {}\n",
                self.pick(APPS),
                self.pick(SPACES),
                self.pick(APPS),
                self.number(2)
            ),
        )
    }

    fn rbac(&mut self) -> String {
        let text = format!(
            "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: {}\nsecrets:\n- name: {}-token-{}\nimagePullSecrets:\n- name: registry-credentials\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nrules:\n- apiGroups: [\"\"]\n  resources: [\"secrets\", \"serviceaccounts/token\"]\n  resourceNames: [\"{}\"]\n  verbs: [\"get\"]\n---\napiVersion: external-secrets.io/v1\nkind: ExternalSecret\nspec:\n  secretStoreRef:\n    kind: SecretStore\n    name: vault\n  data:\n  - secretKey: password\n    remoteRef:\n      key: prod/{}\n      property: password\n",
            self.pick(APPS),
            self.pick(APPS),
            self.of(b"bcdfghjklmnpqrstvwxz2456789", 5),
            self.pick(APPS),
            self.pick(APPS)
        );
        Self::fenced("yaml", &text)
    }

    fn ci_log(&mut self) -> String {
        Self::fenced(
            "",
            &format!(
                "{} Run docker/login-action@{}\nwith:\n  username: acme\n  password: ***\n  registry: ghcr.io\nenv:\n  GITHUB_TOKEN: ***\n{} Login Succeeded!\n{} Cache restored from key: Linux-cargo-{}\n{} ##[warning]secret `NPM_TOKEN` is not set\n",
                self.time(),
                self.hex(40),
                self.time(),
                self.time(),
                self.hex(64),
                self.time()
            ),
        )
    }

    fn signature(&mut self) -> String {
        let text = format!(
            "{{\"critical\":{{\"image\":{{\"docker-manifest-digest\":\"sha256:{}\"}},\"type\":\"cosign container image signature\"}},\"optional\":{{\"Bundle\":{{\"SignedEntryTimestamp\":\"MEUCIQ{}\",\"Payload\":{{\"logIndex\":{},\"logID\":\"{}\"}}}}}}}}\nPublic key: MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE{}\n",
            self.hex(64),
            self.base64(66),
            self.number(900_000_000),
            self.hex(64),
            self.base64(63)
        );
        Self::fenced("json", &text)
    }

    fn diff(&mut self) -> String {
        let text = format!(
            "diff --git a/deploy/{}.yaml b/deploy/{}.yaml\nindex {}..{} 100644\n@@ -12,7 +12,7 @@ spec:\n-        image: acme/{}:{}\n+        image: acme/{}@sha256:{}\n         env:\n         - name: API_TOKEN\n           valueFrom:\n             secretKeyRef:\n               name: {}\n               key: api-token\n         - name: POSTGRES_PASSWORD\n           valueFrom:\n             secretKeyRef: {{name: db, key: password}}\n",
            self.pick(APPS),
            self.pick(APPS),
            self.hex(7),
            self.hex(7),
            self.pick(APPS),
            self.hex(12),
            self.pick(APPS),
            self.hex(64),
            self.pick(APPS)
        );
        Self::fenced("diff", &text)
    }

    fn rotation(&mut self) -> String {
        format!(
            "| secret | key | version | changed |\n|:--|:--|--:|:--|\n{}\nThe old access key `…{}` was disabled; key ID fingerprint `{}`.\n",
            self.lines(2, 5, |a| format!(
                "| {}-credentials | {} | {} | {} |",
                a.pick(APPS),
                a.pick(&["password", "token", "api-key", "client-secret"]),
                a.hex(8),
                a.time()
            )),
            self.of(b"ABCDEFGHIJKLMNOP234567", 4),
            self.hex(32)
        )
    }

    fn cookies(&mut self) -> String {
        Self::fenced(
            "http",
            &format!(
                "HTTP/2 401\nwww-authenticate: Bearer realm=\"https://auth.example.com/token\",service=\"registry\",scope=\"repository:acme/{}:pull\"\ncf-ray: {}-FRA\nx-amz-cf-id: {}==\ncontent-security-policy: script-src 'nonce-{}' 'sha256-{}'\nstrict-transport-security: max-age=31536000\n",
                self.pick(APPS),
                self.hex(16),
                self.of(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-", 54),
                self.base64(16),
                self.base64(32)
            ),
        )
    }

    fn table(&mut self) -> String {
        let rows = self.lines(2, 6, |a| {
            format!(
                "| {} | {} | {} MiB | `{}` |",
                a.pod(),
                a.pick(SPACES),
                a.number(900),
                a.hex(12)
            )
        });
        format!("| pod | namespace | memory | commit |\n|:----|:-----|-------:|:--|\n{rows}")
    }

    fn helm_values(&mut self) -> String {
        let text = format!(
            "auth:\n  enabled: true\n  existingSecret: {}-auth\n  secretKeys:\n    adminPasswordKey: postgres-password\n    userPasswordKey: password\n  token:\n    audience: {}\n    expirationSeconds: {}\n  apiKey: \"\"\n  password: null\nserviceAccount:\n  automountServiceAccountToken: false\npodAnnotations:\n  checksum/config: {}\n  vault.hashicorp.com/agent-inject-secret-db: database/creds/{}\n",
            self.pick(APPS),
            self.pick(APPS),
            self.number(9000),
            self.hex(64),
            self.pick(APPS)
        );
        Self::fenced("yaml", &text)
    }
}
