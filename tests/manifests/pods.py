"""The rules that each Pod template has to keep: hardening, its secrets, its command line."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

# A literal that looks like a token. Secrets are referred to, never written down; the examples say replace-me.
TOKEN = re.compile(r"xox[abp]-\w{8}|xapp-\w{8}|Bearer \S{8}|\d{8,10}:[\w-]{30}")
SECRET_NAME = re.compile(r"TOKEN$|SECRET$|PASSWORD$|DATABASE_URL$")
# The variable whose value makes several processes one Herald.
DATABASE = "HERALD_DATABASE_URL"
# The variable that names Herald's own file.
CONFIG = "HERALD_CONFIG"
# What is left for the kubelet beside Herald's own drain, in seconds.
MARGIN = 15
# Names that the gateway reads which kmcp puts in front of an MCPServer.
GATEWAY = {"NAMESPACE", "GATEWAY", "CLUSTER_ID", "NETWORK", "AUTH_TOKEN", "SERVICE_ACCOUNT", "ADMIN_ADDR", "STATS_ADDR"}
GATEWAY |= {"READINESS_ADDR", "WORKER_THREADS", "CPU_LIMIT", "OTLP_ENDPOINT"}


@dataclass
class Pod:
    """One Pod template, and what decides about its life."""

    kind: str
    name: str
    labels: dict
    spec: dict
    workload: dict

    @property
    def where(self):
        return f"{self.kind} {self.name}"

    @property
    def containers(self):
        return self.spec.get("initContainers", []) + self.spec["containers"]

    @property
    def arguments(self):
        return self.spec["containers"][0].get("args", [])

    @property
    def listens(self):
        """Whether people talk to agents through it."""
        return "bot" in self.arguments or "--with-bot" in self.arguments

    def shares(self, install, facts):
        """Whether it stores in a database, which others may share."""
        return any(DATABASE in names(container, install, facts) for container in self.spec["containers"])


def pods(install):
    """The Pods of an install, also those that kmcp will make."""
    for document in install.of("Deployment", "StatefulSet", "DaemonSet", "Job"):
        template = document["spec"]["template"]
        labels = template["metadata"].get("labels", {})
        yield Pod(document["kind"], document["metadata"]["name"], labels, template["spec"], document["spec"])
    for document in install.of("MCPServer"):
        yield of_kmcp(document)


def of_kmcp(document):
    """What kmcp makes of an MCPServer (transportadapter_translator.go), as far as it matters here."""
    name, deployment = document["metadata"]["name"], document["spec"]["deployment"]
    secrets = [{"secretRef": secret} for secret in deployment.get("secretRefs", [])]
    env = [{"name": key, "value": value} for key, value in deployment.get("env", {}).items()]
    main = {key: deployment.get(key, {}) for key in ("securityContext", "resources")}
    main |= {"name": name, "image": deployment["image"], "args": deployment.get("args", []), "env": env, "envFrom": secrets}
    main |= {"ports": [{"containerPort": deployment["port"]}], "volumeMounts": deployment.get("volumeMounts", [])}
    spec = {"containers": [main], "volumes": deployment.get("volumes", []), "securityContext": deployment.get("podSecurityContext", {})}
    spec["serviceAccountName"] = deployment.get("serviceAccountName")
    if document["spec"]["transportType"] == "stdio":
        spec["initContainers"] = [{"name": "copy-binary", **deployment.get("initContainer", {})}]
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/instance": name, "app.kubernetes.io/managed-by": "kmcp"}
    return Pod("MCPServer", name, labels, spec, {"replicas": deployment.get("replicas", 1)})


def findings(install, facts):
    for document in install.of("Pod", "ReplicaSet", "ReplicationController", "CronJob"):
        yield f"{document['kind']} {document['metadata']['name']}: these rules do not look into this kind"
    for pod in pods(install):
        for rule in (hardening, service_account, life, storage, settings, images, command_line, environment):
            yield from (f"{pod.where}: {text}" for text in rule(pod, install, facts))


def hardening(pod, _install, _facts):
    """The restricted Pod Security Standard, and a read-only root."""
    context = pod.spec.get("securityContext", {})
    if context.get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not set"
    if context.get("runAsUser") != 65532 or context.get("fsGroup") != 65532:
        yield "runAsUser and fsGroup are not the image's 65532"
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "seccompProfile is not RuntimeDefault"
    if any(pod.spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
        yield "shares a namespace of its host"
    if any("hostPath" in volume for volume in pod.spec.get("volumes", [])):
        yield "mounts a directory of its host"
    for container in pod.containers:
        context, resources = container.get("securityContext", {}), container.get("resources", {})
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            yield f"{container['name']} may gain privileges"
        if context.get("readOnlyRootFilesystem") is not True:
            yield f"{container['name']} can write to its root file system"
        if context.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{container['name']} does not drop all capabilities"
        if context.get("runAsUser", 65532) == 0 or context.get("runAsNonRoot") is False:
            yield f"{container['name']} runs as root"
        for bound in ("requests", "limits"):
            if not {"cpu", "memory"} <= set(resources.get(bound, {})):
                yield f"{container['name']} has no {bound} of cpu and memory"


def service_account(pod, install, _facts):
    """No Pod gets a token of the Kubernetes API."""
    name = pod.spec.get("serviceAccountName")
    accounts = {account["metadata"]["name"]: account for account in install.of("ServiceAccount")}
    if name and name not in accounts:
        yield f"its ServiceAccount {name} does not exist"
    mounted = pod.spec.get("automountServiceAccountToken", accounts.get(name, {}).get("automountServiceAccountToken", True))
    if mounted is not False:
        yield "mounts a service-account token"
    if pod.kind != "MCPServer" and pod.spec.get("enableServiceLinks") is not False:
        yield "gets variables such as HERALD_PORT from Services: enableServiceLinks is not false"


def life(pod, install, facts):
    """Probes, time to drain, and what more than one replica needs."""
    container = pod.spec["containers"][0]
    if pod.kind == "Deployment":
        for probe, path in {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}.items():
            if container.get(probe, {}).get("httpGet") != {"path": path, "port": "http"}:
                yield f"{probe} does not ask {path} on the port http"
        pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        least = pause + facts.drain + MARGIN
        if pod.spec.get("terminationGracePeriodSeconds", 30) < least:
            yield f"terminationGracePeriodSeconds is below {least}: a drain takes {facts.drain} s after preStop"
    several = pod.workload.get("replicas", 1) > 1
    budgets = [budget for budget in install.of("PodDisruptionBudget") if selects(budget["spec"]["selector"], pod.labels)]
    if several != bool(budgets):
        yield "a PodDisruptionBudget goes with more than one replica, and with nothing else"
    pauses = "sleep" in container.get("lifecycle", {}).get("preStop", {})
    if pod.kind == "Deployment" and several != pauses:
        yield "preStop.sleep goes with more than one replica, and with nothing else"
    if pod.shares(install, facts):
        yield from replicas(pod, install, facts)
    elif several:
        yield f"more than one replica has to share a database: {DATABASE}"
    elif pod.listens and pod.workload.get("strategy") != {"type": "Recreate"}:
        yield "a bot without a database is one replica with the strategy Recreate"


def replicas(pod, install, facts):
    """Processes that share a database: no pause in an update, not all on one node, one list of settings."""
    if pod.kind != "Deployment":
        return
    strategy = pod.workload.get("strategy", {})
    if strategy.get("type") != "RollingUpdate" or strategy.get("rollingUpdate", {}).get("maxUnavailable") != 0:
        yield "an update takes a replica away before the next one is ready: maxUnavailable is not 0"
    spread = pod.spec.get("topologySpreadConstraints", [])
    if not any(constraint["topologyKey"] == "kubernetes.io/hostname" for constraint in spread):
        yield "its replicas may all be on one node"
    for constraint in spread:
        own = set(constraint.get("matchLabelKeys", [])) | set(constraint["labelSelector"]["matchLabels"])
        if not selects(constraint["labelSelector"], pod.labels) or not set(pod.labels) <= own:
            yield f"it is spread over {constraint['topologyKey']} by other Pods than its own"
    given = [pod.spec["containers"][0].get(key) for key in ("env", "envFrom")]
    for other in pods(install):
        if other.shares(install, facts) and [other.spec["containers"][0].get(key) for key in ("env", "envFrom")] != given:
            yield f"shares a database with {other.where}, which has other settings: whoever sends decides what is allowed"


def storage(pod, install, facts):
    """Herald writes to /data alone, or to a database; and a volume of one node is for one Pod at a time."""
    volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", [])}
    claims = {claim["metadata"]["name"] for claim in install.of("PersistentVolumeClaim")}
    mounts = [mount for container in pod.containers for mount in container.get("volumeMounts", []) if not mount.get("readOnly")]
    if any(mount["mountPath"] != "/data" for mount in mounts):
        yield "has a writable volume elsewhere than at /data"
    if "stdio" not in pod.arguments and not mounts and not pod.shares(install, facts):
        yield "has no volume at /data"
    if mounts and pod.shares(install, facts):
        yield "has a volume at /data and stores in a database"
    for mount in mounts:
        claim = volumes.get(mount["name"], {}).get("persistentVolumeClaim")
        if claim and claim["claimName"] not in claims:
            yield f"its PersistentVolumeClaim {claim['claimName']} does not exist"
        if claim and (pod.workload.get("strategy") != {"type": "Recreate"} or pod.workload.get("replicas", 1) > 1):
            yield "a volume of one node goes with one replica and the strategy Recreate"


def settings(pod, install, facts):
    """Herald's own file is there, and changes where it is mounted."""
    volumes = {volume["name"]: volume.get("configMap", {}).get("name") for volume in pod.spec.get("volumes", [])}
    for container in pod.containers:
        mounts = [mount for mount in container.get("volumeMounts", []) if mount["mountPath"] != "/data"]
        if any("subPath" in mount or "subPathExpr" in mount for mount in mounts):
            yield "mounts a single file, which never changes: leave subPath out"
        held = {PurePosixPath(mount["mountPath"]): config_maps(install, facts).get(volumes.get(mount["name"]), {}) for mount in mounts}
        for path in (PurePosixPath(one["value"]) for one in container.get("env", []) if one["name"] == CONFIG):
            if path.name not in held.get(path.parent, {}):
                yield f"{CONFIG} is {path}, and no ConfigMap that is mounted there has that key"


def images(pod, _install, facts):
    """This version, under a name without a registry: what manifests/image says, where it is used."""
    for container in pod.containers:
        image = container.get("image", f"herald:{facts.version}")
        if image != f"herald:{facts.version}":
            yield f"the image {image} is not herald:{facts.version}"


def command_line(pod, _install, facts):
    """Herald knows the command and its flags."""
    command, *rest = pod.arguments or [""]
    if command not in facts.commands:
        yield f"herald has no command `{command}`"
    for flag in (argument for argument in rest if argument.startswith("--")):
        if flag.removeprefix("--").partition("=")[0] not in facts.flags:
            yield f"herald has no flag {flag}"


def environment(pod, install, facts):
    """Every variable exists; secrets come by reference, from keys that manifests/secrets documents."""
    for container in pod.containers:
        for variable in container.get("env", []):
            value, source = variable.get("value", ""), variable.get("valueFrom", {})
            if TOKEN.search(value) or (value and SECRET_NAME.search(variable["name"])):
                yield f"{variable['name']} is a secret written down"
            yield from reference(source.get("secretKeyRef"), facts.secrets, "Secret")
            yield from reference(source.get("configMapKeyRef"), config_maps(install, facts), "ConfigMap")
        for source in container.get("envFrom", []):
            yield from reference(source.get("secretRef"), facts.secrets, "Secret")
            yield from reference(source.get("configMapRef"), config_maps(install, facts), "ConfigMap")
        known = names(container, install, facts)
        for name in sorted(known - facts.variables):
            if not name.startswith("OTEL_"):
                yield f"herald reads no variable {name}"
        for name in sorted(known & GATEWAY) if pod.kind == "MCPServer" else []:
            yield f"kmcp's gateway reads {name} too"


def config_maps(install, facts):
    return facts.config_maps | {d["metadata"]["name"]: d.get("data", {}) for d in install.of("ConfigMap")}


def names(container, install, facts):
    """The variables that a container is given."""
    given = {variable["name"] for variable in container.get("env", [])}
    for source in container.get("envFrom", []):
        given |= set(facts.secrets.get(source.get("secretRef", {}).get("name"), []))
        given |= set(config_maps(install, facts).get(source.get("configMapRef", {}).get("name"), []))
    return given


def reference(source, known, kind):
    if source and source["name"] not in known:
        yield f"the {kind} {source['name']} is not in the manifests"
    elif source and "key" in source and source["key"] not in known[source["name"]]:
        yield f"the key {source['key']} of the {kind} {source['name']} is not in the manifests"


def selects(selector, labels):
    """Whether a selector of labels selects; an empty one selects everything."""
    expressions = selector.get("matchExpressions", [])
    assert not expressions, "matchExpressions are not read here"
    return selector.get("matchLabels", {}).items() <= labels.items()
