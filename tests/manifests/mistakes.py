"""Mistakes that people make, planted one at a time into sound manifests; each has to be caught, and for the right reason."""

import copy
import tempfile
from pathlib import Path

import rendering
import schemas

GONE = object()
TEMPLATE = "spec template spec"
CONTAINER = f"{TEMPLATE} containers 0"
HEADER = "spec declarative tools 0 headersFrom 0 valueFrom name"

# Directory, document, where, what instead (GONE: removed), and what the finding has to say. A path that does not exist is made.
PLANTED = [
    # Kubernetes' schemas
    ("base", "Deployment herald", f"{CONTAINER} resorces", {}, "resorces"),
    ("base", "Deployment herald", "spec replicas", "one", "replicas"),
    ("base", "Deployment herald", "spec selector", GONE, "'selector' is a required property"),
    ("base", "Service herald", "apiVersion", "v2", "has no v2 Service"),
    ("base", "NetworkPolicy herald", "spec ingres", [], "ingres"),
    ("agents", "Agent slack-k8s-agent", "metadata lables", {}, "lables"),
    # unknown fields, missing fields and wrong values in custom resources
    ("base", "RemoteMCPServer herald", "spec header", [], "'header' was unexpected"),
    ("base", "RemoteMCPServer herald", "spec protocol", "HTTP", "'HTTP' is not one of"),
    ("base", "RemoteMCPServer herald", "spec description", GONE, "'description' is a required property"),
    ("base", "RemoteMCPServer herald", "apiVersion", "kagent.dev/v1", "no definition is known"),
    ("agents", "Agent slack-k8s-agent", "spec tools", [], "'tools' was unexpected"),
    ("agents", "Agent slack-k8s-agent", "spec declarative a2aConfig skils", [], "'skils' was unexpected"),
    ("mcpserver-stdio", "MCPServer slack-mcp", "spec deployment strategy", {}, "'strategy' was unexpected"),
    ("mcpserver-http", "MCPServer herald-mcp", "spec transportType", "sse", "'sse' is not one of"),
    ("secrets/vault", "ExternalSecret herald", "spec refreshIntervall", "1h", "'refreshIntervall' was unexpected"),
    ("secrets/vault", "ExternalSecret herald", "apiVersion", "external-secrets.io/v1alpha1", "no definition is known"),
    ("argocd", "Application herald", "spec destination cluster", "x", "'cluster' was unexpected"),
    # rules of custom resources
    ("agents", "Agent slack-k8s-agent", "spec declarative tools 0 mcpServer requireApproval 0", "k8s_apply_manifest", "must also appear in ToolNames"),
    ("agents", "Agent slack-k8s-agent", "spec declarative tools 0 mcpServer", GONE, "type.mcpServer must be specified"),
    ("agents", "Agent slack-k8s-agent", "spec declarative systemMessageFrom", {"type": "Secret", "name": "a", "key": "b"}, "mutually exclusive"),
    ("agents", "Agent on-call-notifier", "spec declarative tools 0 headersFrom 0 value", "x", "Exactly one of value or valueFrom"),
    ("base", "RemoteMCPServer herald", "spec tls", {"disableVerify": True}, "spec.tls must be unset"),
    ("mcpserver-stdio", "MCPServer slack-mcp", "spec deployment serviceAccount", {}, "mutually exclusive"),
    # hardening
    ("base", "Deployment herald", f"{TEMPLATE} securityContext runAsNonRoot", GONE, "runAsNonRoot is not set"),
    ("base", "Deployment herald", f"{TEMPLATE} securityContext runAsUser", GONE, "runAsUser and fsGroup"),
    ("bot", "Deployment herald-bot", f"{TEMPLATE} securityContext seccompProfile type", "Unconfined", "seccompProfile"),
    ("bot", "Deployment herald-bot", f"{TEMPLATE} hostNetwork", True, "shares a namespace of its host"),
    ("bot", "Deployment herald-bot", f"{TEMPLATE} volumes 0", {"name": "data", "hostPath": {"path": "/"}}, "directory of its host"),
    ("check", "Job herald-check", f"{CONTAINER} securityContext capabilities", {"drop": ["NET_RAW"]}, "drop all capabilities"),
    ("check", "Job herald-check", f"{CONTAINER} securityContext capabilities add", ["NET_BIND_SERVICE"], "drop all capabilities"),
    ("check", "Job herald-check", f"{CONTAINER} securityContext runAsUser", 0, "runs as root"),
    ("base", "Deployment herald", f"{CONTAINER} securityContext readOnlyRootFilesystem", False, "write to its root"),
    ("base", "Deployment herald", f"{CONTAINER} securityContext allowPrivilegeEscalation", GONE, "may gain privileges"),
    ("base", "Deployment herald", f"{CONTAINER} resources limits memory", GONE, "no limits"),
    ("mcpserver-stdio", "MCPServer slack-mcp", "spec deployment securityContext", GONE, "write to its root"),
    ("mcpserver-stdio", "MCPServer slack-mcp", "spec deployment initContainer securityContext", GONE, "copy-binary may gain"),
    ("mcpserver-stdio", "MCPServer slack-mcp", "spec deployment serviceAccountName", GONE, "mounts a service-account token"),
    ("bot", "Deployment herald-bot", f"{TEMPLATE} automountServiceAccountToken", True, "mounts a service-account token"),
    ("bot", "Deployment herald-bot", f"{TEMPLATE} serviceAccountName", "default", "ServiceAccount default does not exist"),
    ("bot", "Deployment herald-bot", f"{TEMPLATE} enableServiceLinks", GONE, "enableServiceLinks"),
    # life
    ("base", "Deployment herald", f"{CONTAINER} readinessProbe httpGet path", "/healthz", "readinessProbe does not ask /readyz"),
    ("base", "Deployment herald", f"{CONTAINER} livenessProbe", GONE, "livenessProbe does not ask"),
    ("base", "Deployment herald", f"{TEMPLATE} terminationGracePeriodSeconds", 30, "below 40"),
    ("base", "Deployment herald", "spec replicas", 2, "PodDisruptionBudget goes with more than one"),
    ("base", "Deployment herald", "spec replicas", 2, "preStop.sleep goes with more than one"),
    ("base", "Deployment herald", "spec replicas", 2, "more than one replica has to share a database"),
    ("base", "Deployment herald", "spec strategy", GONE, "a volume of one node"),
    ("quickstart-with-bot", "Deployment herald", "spec strategy type", "RollingUpdate", "a bot without a database is one replica"),
    # replicas
    ("production", "Deployment herald", f"{CONTAINER} envFrom 2", GONE, "more than one replica has to share a database"),
    ("production", "Deployment herald", f"{CONTAINER} envFrom 2", GONE, "has no volume at /data"),
    ("production", "Deployment herald-bot", f"{CONTAINER} envFrom 2 secretRef name", "database", "Secret database is not in the manifests"),
    ("production", "Deployment herald-bot", f"{CONTAINER} envFrom 1 secretRef name", "herald-bot", "which has other settings"),
    ("production", "Deployment herald", f"{CONTAINER} lifecycle", GONE, "preStop.sleep goes with more than one"),
    ("production", "Deployment herald", f"{CONTAINER} lifecycle preStop sleep", GONE, "preStop.sleep goes with more than one"),
    ("production", "Deployment herald", f"{CONTAINER} lifecycle preStop sleep seconds", 6, "below 46"),
    ("production", "Deployment herald-bot", f"{TEMPLATE} terminationGracePeriodSeconds", 44, "below 45"),
    ("production", "Deployment herald", "spec strategy", {"type": "Recreate"}, "maxUnavailable is not 0"),
    ("production", "Deployment herald-bot", "spec strategy rollingUpdate maxUnavailable", 1, "maxUnavailable is not 0"),
    ("production", "Deployment herald", f"{TEMPLATE} topologySpreadConstraints 0", GONE, "may all be on one node"),
    ("production", "Deployment herald", f"{TEMPLATE} topologySpreadConstraints 1 matchLabelKeys", GONE, "by other Pods than its own"),
    (
        "production",
        "Deployment herald-bot",
        f"{TEMPLATE} topologySpreadConstraints 0 labelSelector matchLabels app.kubernetes.io/name",
        "heralds",
        "by other Pods than its own",
    ),
    ("production", "PodDisruptionBudget herald-bot", "spec selector matchLabels app.kubernetes.io/component", "bots", "PodDisruptionBudget goes with"),
    ("production", "PodDisruptionBudget herald", "metadata namespace", "default", "is not in the namespace kagent"),
    ("production", "Deployment herald", f"{CONTAINER} volumeMounts", [{"name": "data", "mountPath": "/data"}], "and stores in a database"),
    ("production", "NetworkPolicy herald", "spec egress 2", GONE, "reach the database at postgres.postgres:5432"),
    (
        "production",
        "NetworkPolicy herald-bot",
        "spec egress 3 to 0 namespaceSelector matchLabels kubernetes.io/metadata.name",
        "kagent",
        "reach the database at postgres.postgres:5432",
    ),
    ("production", "NetworkPolicy herald-bot", "spec egress 3 ports 0 port", 6432, "reach the database at postgres.postgres:5432"),
    ("bot", "Deployment herald-bot", f"{TEMPLATE} volumes 0 persistentVolumeClaim claimName", "other", "PersistentVolumeClaim other does not exist"),
    ("base", "Deployment herald", f"{CONTAINER} volumeMounts 0 mountPath", "/tmp", "elsewhere than at /data"),
    ("base", "Deployment herald", f"{CONTAINER} volumeMounts", GONE, "has no volume at /data"),
    # image, command line, variables
    ("base", "Deployment herald", f"{CONTAINER} image", "herald:latest", "is not herald:"),
    ("bot", "Deployment herald-bot", f"{CONTAINER} image", "registry.example.com/herald:0.1.0", "is not herald:"),
    ("base", "Deployment herald", f"{CONTAINER} image", "herald:0.0.9", "is not herald:"),
    ("check", "Job herald-check", f"{CONTAINER} image", "herald", "is not herald:"),
    ("mcpserver-stdio", "MCPServer slack-mcp", "spec deployment image", "herald", "is not herald:"),
    ("bot", "Deployment herald-bot", f"{CONTAINER} args 0", "listen", "no command `listen`"),
    ("bot", "Deployment herald-bot", f"{CONTAINER} args 1", "--log-fromat", "no flag --log-fromat"),
    ("discovered", "Deployment herald", f"{CONTAINER} env 0 name", "HERALD_ALLOW_ANONYMUS", "reads no variable HERALD_ALLOW_ANONYMUS"),
    ("bot", "ConfigMap herald-bot", "data SLACK_CHANEL_IDS", "C1", "reads no variable SLACK_CHANEL_IDS"),
    ("mcpserver-http", "MCPServer herald-mcp", "spec deployment env NAMESPACE", "kagent", "gateway reads NAMESPACE too"),
    # secrets
    ("bot", "Deployment herald-bot", f"{CONTAINER} env", [{"name": "SLACK_BOT_TOKEN", "value": "x"}], "is a secret written down"),
    ("bot", "ConfigMap herald-bot", "data DISCORD_BOT_TOKEN", "x", "DISCORD_BOT_TOKEN is a secret"),
    ("bot", "Deployment herald-bot", f"{CONTAINER} envFrom 1 secretRef name", "tokens", "Secret tokens is not in the manifests"),
    ("bot", "Deployment herald-bot", f"{CONTAINER} envFrom 0 configMapRef name", "settings", "ConfigMap settings is not in the manifests"),
    (
        "bot",
        "Deployment herald-bot",
        f"{CONTAINER} env",
        [{"name": "HERALD_TOKEN", "valueFrom": {"secretKeyRef": {"name": "herald", "key": "TOKEN"}}}],
        "key TOKEN of the Secret herald is not in the manifests",
    ),
    ("secrets/example", "Secret herald", "stringData HERALD_TOKEN", "replace-me", "begins with `Bearer `"),
    ("secrets/example", "Secret herald", "stringData SLACK_BOT_TOKEN", "xoxb-1", "SLACK_BOT_TOKEN is no placeholder"),
    ("secrets/example", "Secret herald", "stringData SLACK_TOKEN", "", "reads no variable SLACK_TOKEN"),
    ("secrets/example", "Secret herald-database", "stringData HERALD_DATABASE_URL", "postgres://a:b@c.d:5432/e?sslmode=verify-full", "is no placeholder"),
    ("secrets/example", "Secret herald-database", "stringData HERALD_DATABASE_URL", "postgres://a:replace-me@c.d:5432/e", "sslmode is not verify-full"),
    ("production", "ConfigMap herald", "data HERALD_DATABASE_URL", "postgres://a:b@c.d/e", "HERALD_DATABASE_URL is a secret"),
    ("secrets/vault", "ExternalSecret herald-database", "spec data 0 secretKey", "DATABASE_URL", "DATABASE_URL is not in secrets/example"),
    ("secrets/vault", "ExternalSecret herald-bot", "spec data 0 secretKey", "TELEGRAM_TOKEN", "TELEGRAM_TOKEN is not in secrets/example"),
    ("secrets/vault", "ExternalSecret herald", "spec target name", "heralds", "no such Secret in secrets/example"),
    ("base", "RemoteMCPServer herald", "spec headersFrom", GONE, "none comes from a Secret"),
    ("base", "RemoteMCPServer herald", "spec headersFrom 0 valueFrom key", "TOKEN", "key TOKEN of the Secret herald"),
    # what selects, refers to or calls what
    ("base", "Deployment herald", "spec template metadata labels app.kubernetes.io/component", "mcp", "selector does not match"),
    ("base", "Service herald", "spec selector app.kubernetes.io/name", "heralds", "selects 0 kinds of Pods"),
    ("base", "Service herald", "spec ports 0 targetPort", "web", "its Pod has no port web"),
    ("bot", "Service herald-bot", "metadata name", "bot-metrics", "alerts say `deploy/bot-metrics`"),
    ("mcpserver-http", "NetworkPolicy herald-mcp", "spec ingress 0 ports 0 port", 9090, "its Pods have no port 9090"),
    ("base", "Service herald", "metadata labels kagent.dev/mcp-service", "true", "belongs to `discovered` alone"),
    ("discovered", "Service herald", "metadata labels kagent.dev/mcp-service", GONE, "belongs to `discovered` alone"),
    ("discovered", "Service herald", "metadata annotations kagent.dev/mcp-service-port", "8080", "mcp-service-port is none"),
    ("base", "RemoteMCPServer herald", "spec url", "http://herald.kagent:8080/mcp", "no Service stands behind"),
    ("base", "RemoteMCPServer herald", "spec url", "http://herald.kagent:3000/", "no Service stands behind"),
    ("mcpserver-http", "MCPServer herald-mcp", "spec httpTransport targetPort", 8080, "always calls deployment.port"),
    ("bot", "ConfigMap herald-bot", "data KAGENT_A2A_URL", "http://kagent-controller.kagent:8083/api/a2a/kagent/slack-k8s-agent", "no agent of agents/"),
    ("bot-slack-http", "Ingress herald-bot", "spec rules 0 http paths 0 backend service port name", "web", "there is no Service herald-bot"),
    ("bot-slack-http", "Ingress herald-bot", "spec rules 0 http paths 0 path", "/", "only /slack/events needs to be"),
    ("bot-slack-http", "Ingress herald-bot", "spec tls", GONE, "without TLS"),
    ("bot", "NetworkPolicy herald-bot", "spec podSelector matchLabels app.kubernetes.io/component", "bots", "no NetworkPolicy selects it"),
    ("bot", "NetworkPolicy herald-bot", "spec podSelector matchLabels app.kubernetes.io/component", "bots", "selects no Pod"),
    ("bot", "NetworkPolicy herald-bot", "metadata namespace", "default", "is not in the namespace kagent"),
    ("bot", "NetworkPolicy herald-bot", "spec policyTypes", ["Ingress"], "does not limit both directions"),
    ("bot", "NetworkPolicy herald-bot", "spec egress 1 ports 0 port", 8443, "reach nobody on port 443"),
    ("bot", "NetworkPolicy herald-bot", "spec egress 2", GONE, "reach nobody on port 8083"),
    ("bot", "NetworkPolicy herald-bot", "spec egress 1 to 0 ipBlock except", ["10.0.0.0/8"], "not the internet alone"),
    ("bot", "NetworkPolicy herald-bot", "spec egress 1 to", GONE, "open to everybody"),
    ("bot", "NetworkPolicy herald-bot", "spec ingress 0 ports 0 port", "prometheus", "have no port prometheus"),
    # clients
    ("quickstart-with-clients", "Deployment herald", f"{CONTAINER} env 0 value", "/etc/herald/config.yaml", "no ConfigMap that is mounted there"),
    ("quickstart-with-clients", "Deployment herald", f"{CONTAINER} volumeMounts 1 mountPath", "/etc/heralds", "no ConfigMap that is mounted there"),
    ("quickstart-with-clients", "Deployment herald", f"{TEMPLATE} volumes 1 configMap name", "herald", "no ConfigMap that is mounted there"),
    ("quickstart-with-clients", "Deployment herald", f"{CONTAINER} volumeMounts 1 subPath", "herald.yaml", "a single file, which never changes"),
    ("quickstart-with-clients", "Deployment herald", f"{CONTAINER} volumeMounts 1 readOnly", GONE, "elsewhere than at /data"),
    ("production", "Deployment herald", f"{CONTAINER} env", [{"name": "HERALD_ON_UNKNOWN", "value": "hold"}], "which has other settings"),
    ("quickstart-with-clients", "ConfigMap herald-clients", "data herald.yaml", "clients: [", "is no YAML"),
    ("quickstart-with-clients", "ConfigMap herald-clients", "data herald.yaml", "clients: {on-call-notifier: {token: []}}", "'token' was unexpected"),
    ("quickstart-with-clients", "ConfigMap herald-clients", "data herald.yaml", "clients: {on-call-notifier: {tokens: ['sha256:replace-me'], policy: {secrets: hide}}}", "'hide' is not valid under any"),
    ("quickstart-with-clients", "ConfigMap herald-clients", "data herald.yaml", "# mcp:\n#   jwt:\n#     issuers: x", "'issuers' was unexpected"),
    ("quickstart-with-clients", "ConfigMap herald-clients", "data herald.yaml", f"clients: {{on-call-notifier: {{tokens: ['sha256:{'0' * 64}']}}}}", "is no placeholder"),
    ("quickstart-with-clients", "ConfigMap herald-clients", "data herald.yaml", "clients: {helm-agent: {}}", "the client helm-agent is no agent"),
    ("agents", "Agent on-call-notifier", "metadata name", "on-call", "clients/ has no client of that name"),
    ("agents", "Agent on-call-notifier", "spec declarative tools 0 headersFrom", GONE, "none comes from a Secret"),
    ("agents", "Agent on-call-notifier", HEADER, "herald", "its token is not the one of the client on-call-notifier"),
    ("agents", "Agent telegram-k8s-agent", HEADER.replace("0", "1", 1), "herald-client-slack-k8s-agent", "shares the Secret herald-client-slack-k8s-agent"),
    ("agents", "Agent on-call-notifier", HEADER, "herald-client-gone", "key HERALD_TOKEN of the Secret herald-client-gone"),
    ("agents", "Agent on-call-notifier", "spec declarative tools 0 mcpServer toolNames 0", "slack_post_message", "no tool slack_post_message"),
    ("agents", "Agent telegram-k8s-agent", "spec declarative tools 0 mcpServer requireApproval", [], "without a person's approval"),
    ("agents", "Agent telegram-k8s-agent", "spec declarative a2aConfig", GONE, "nothing about its skills"),
]

MONITOR = {
    "apiVersion": "monitoring.coreos.com/v1",
    "kind": "ServiceMonitor",
    "metadata": {"name": "herald", "namespace": "kagent"},
    "spec": {"selector": {"matchLabels": {"app.kubernetes.io/name": "herald"}}, "endpoints": [{"port": "metric"}]},
}
SCHEDULE = {
    "apiVersion": "batch/v1",
    "kind": "CronJob",
    "metadata": {"name": "x"},
    "spec": {
        "schedule": "@daily",
        "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "x", "image": "x"}]}}}},
    },
}
BUDGET = {
    "apiVersion": "policy/v1",
    "kind": "PodDisruptionBudget",
    "metadata": {"name": "herald", "namespace": "kagent"},
    "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app.kubernetes.io/name": "herald"}}},
}
# A document too many, and what the finding has to say.
ADDED = [
    ("base", MONITOR, "no Service has the port metric"),
    ("base", SCHEDULE, "do not look into this kind"),
    ("base", BUDGET, "PodDisruptionBudget goes with more than one"),
    ("base", {**MONITOR, "spec": {**MONITOR["spec"], "endpoint": []}}, "'endpoint' was unexpected"),
    ("base", {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "stringData": {}}, "secrets/example alone"),
]


def count(schema):
    return len(PLANTED) + len(ADDED) + len(list(elsewhere(schema)))


def escaped(installs, schema, facts, findings):
    """The planted mistakes that nothing caught."""
    by_name = {install.name: install for install in installs}
    for name, document, path, value, expected in PLANTED:
        found = list(findings(planted(by_name[name], document, path.split(" "), value), schema, facts))
        if not any(expected in text for text in found):
            yield f"not caught in {name}, {document}: {path} (expected: {expected}; found: {found})"
    for name, document, expected in ADDED:
        install = rendering.Install(name, [*by_name[name].documents, document])
        if not any(expected in text for text in findings(install, schema, facts)):
            yield f"not caught in {name}: {document['kind']} (expected: {expected})"
    yield from (f"not caught: {what}" for what, caught in elsewhere(schema) if not caught)


def planted(install, document, path, value):
    """A copy of an install with one thing changed in one document."""
    changed = copy.deepcopy(install)
    kind, name = document.split(" ")
    (target,) = [d for d in changed.documents if (d["kind"], d["metadata"]["name"]) == (kind, name)]
    *way, last = [int(step) if step.isdigit() else step for step in path]
    for step in way:
        target = target[step] if isinstance(step, int) else target.setdefault(step, {})
    if value is GONE:
        del target[last]
    else:
        target[last] = value
    return changed


def elsewhere(schema):
    """Mistakes outside the rendered documents, and whether each is caught."""
    yield "a kubectl that is too old", raises(rendering.Unusable, lambda: rendering.require_kustomize("v4.5.7"))
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for mistake in ("resource: []", "resources: [gone.yaml]", "commonLabels: {app: herald}"):
            (directory / "kustomization.yaml").write_text(f"{mistake}\n", encoding="utf-8")
            yield f"{mistake} in kustomization.yaml", raises(ValueError, lambda: rendering.render(directory))
        (directory / "kustomization.yaml").write_text("# Uses nothing.\n", encoding="utf-8")
        (directory / "loose.yaml").write_text("apiVersion: v1\n", encoding="utf-8")
        found = list(rendering.files_findings(directory))
        yield "a file that does not say what it is for", any("does not open with a comment" in text for text in found)
        yield "a file that nothing uses", any("no kustomization.yaml" in text for text in found)
        named = (
            "images:\n  - name: herald", "    newTag: 0.1.0", "          image: herald:0.1.0", "        - image: registry.example.com/herald",
            "        path: /spec/template/spec/containers/0/image",
        )
        for text in named:
            (directory / "loose.yaml").write_text(f"# An image of its own.\n{text}\n", encoding="utf-8")
            found = rendering.files_findings(directory)
            yield f"a second place that names the image: {text.strip()}", any("names an image" in text for text in found)
    page = "```yaml\napiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {port: 1}\n```\n```yaml\nkind: Service\n```\n"
    yield "a field in a page's example", any("port" in text for text in schema.findings(next(rendering.documents_of(page))))
    yield "an example without apiVersion", any(schema.findings(list(rendering.documents_of(page))[1]))
    yield "a rule that does not compile", any(schemas.unevaluable(["self.("]))
    yield "a rule with a function that is unknown here", any(schemas.unevaluable(["isURL(self.url)"]))
    yield "a rule about an earlier state", any(schemas.unevaluable(["self == oldSelf"]))


def raises(error, action):
    try:
        action()
    except error:
        return True
    return False
