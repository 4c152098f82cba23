"""The rules between documents: what selects, refers to or calls what has to exist."""

import re
from urllib.parse import urlsplit

import yaml

from facts import FILE, clients
from pods import DATABASE, SECRET_NAME, TOKEN, pods, selects

# What stands in place of a hash: Herald does not start with it.
PLACEHOLDER = "sha256:replace-me"
# What the whole address space holds besides the internet: private networks, the nodes' own metadata.
INSIDE = {
    "0.0.0.0/0": {"10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"},
    "::/0": {"fc00::/7", "fe80::/10"},
}


def findings(install, facts):
    for rule in (namespaces, workloads, services, ingresses, networks, secrets, servers, files, agents, monitors):
        yield from rule(install, facts)


def namespaces(install, _facts):
    """What works together is in one namespace, and each file says in which, so that it can be applied alone."""
    together = install.of("Deployment", "Job", "MCPServer", "Service", "ServiceAccount", "PersistentVolumeClaim")
    together += install.of("NetworkPolicy", "PodDisruptionBudget", "Ingress", "Secret", "ExternalSecret", "RemoteMCPServer", "Agent")
    # One that no Pod reads, such as a dashboard, may be elsewhere.
    together += install.of("ConfigMap") if any(pods(install)) else []
    for document in together:
        if document["metadata"].get("namespace") != "kagent":
            yield f"{document['kind']} {document['metadata']['name']}: is not in the namespace kagent"


def ports_of(pod):
    """The ports of a Pod, by number and by name."""
    ports = [port for container in pod.spec["containers"] for port in container.get("ports", [])]
    return {port["containerPort"] for port in ports} | {port["name"] for port in ports if "name" in port}


def workloads(install, _facts):
    for document in install.of("Deployment", "StatefulSet", "DaemonSet"):
        if not selects(document["spec"]["selector"], document["spec"]["template"]["metadata"].get("labels", {})):
            yield f"{document['kind']} {document['metadata']['name']}: its selector does not match its own Pods' labels"


def services(install, _facts):
    for service in install.of("Service"):
        where, spec = f"Service {service['metadata']['name']}", service["spec"]
        chosen = [pod for pod in pods(install) if spec["selector"].items() <= pod.labels.items()]
        if len(chosen) != 1:
            yield f"{where}: selects {len(chosen)} kinds of Pods instead of one"
        for pod in chosen:
            for port in spec["ports"]:
                if port.get("targetPort", port["port"]) not in ports_of(pod):
                    yield f"{where}: its Pod has no port {port.get('targetPort', port['port'])}"
                if port["name"] == "metrics" and pod.name != service["metadata"]["name"]:
                    yield f"{where}: alerts say `deploy/{service['metadata']['name']}`, and the Deployment is {pod.name}"
        discovered = service["metadata"].get("labels", {}).get("kagent.dev/mcp-service")
        if (discovered is not None) != (install.name == "discovered"):
            yield f"{where}: the label kagent.dev/mcp-service belongs to `discovered` alone, where no token is asked for"
        port = service["metadata"].get("annotations", {}).get("kagent.dev/mcp-service-port")
        if discovered and port not in {str(port["port"]) for port in spec["ports"]}:
            yield f"{where}: kagent.dev/mcp-service-port is none of its ports"


def ingresses(install, _facts):
    known = {service["metadata"]["name"]: service["spec"]["ports"] for service in install.of("Service")}
    for ingress in install.of("Ingress"):
        where, tls = f"Ingress {ingress['metadata']['name']}", ingress["spec"].get("tls", [])
        for rule in ingress["spec"]["rules"]:
            if not any(rule["host"] in entry["hosts"] for entry in tls):
                yield f"{where}: {rule['host']} is served without TLS"
            for path in rule["http"]["paths"]:
                target = path["backend"]["service"]
                if (path["path"], path["pathType"]) != ("/slack/events", "Exact"):
                    yield f"{where}: {path['path']} is public, and only /slack/events needs to be"
                if not any(target["port"].items() <= port.items() for port in named(known.get(target["name"], []))):
                    yield f"{where}: there is no Service {target['name']} with the port {target['port']}"


def named(ports):
    """The ports of a Service as an Ingress may call them."""
    return [{"name": port.get("name"), "number": port["port"]} for port in ports]


def networks(install, facts):
    everything = list(pods(install))
    policies = install.of("NetworkPolicy")
    for pod in everything:
        chosen = [policy["spec"] for policy in policies if selects(policy["spec"]["podSelector"], pod.labels)]
        if not chosen:
            yield f"{pod.where}: no NetworkPolicy selects it"
        reached = {port["port"] for spec in chosen for rule in spec.get("egress", []) for port in rule.get("ports", [])}
        for port in sorted({53, 443, 8083 if pod.listens else 53} - reached):
            yield f"{pod.where}: its NetworkPolicy lets it reach nobody on port {port}"
        for url in facts.databases if pod.shares(install, facts) else []:
            if not any(reaches(rule, url) for spec in chosen for rule in spec.get("egress", [])):
                yield f"{pod.where}: its NetworkPolicy does not let it reach the database at {url.hostname}:{url.port}"
    for policy in policies:
        where, spec = f"NetworkPolicy {policy['metadata']['name']}", policy["spec"]
        chosen = [pod for pod in everything if selects(spec["podSelector"], pod.labels)]
        if not chosen:
            yield f"{where}: selects no Pod"
        if set(spec.get("policyTypes", [])) != {"Ingress", "Egress"}:
            yield f"{where}: does not limit both directions"
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for rule in spec.get(direction, []):
                if not rule.get(peers) or not rule.get("ports"):
                    yield f"{where}: a rule under {direction} is open to everybody or on every port"
                for block in (peer["ipBlock"] for peer in rule.get(peers, []) if "ipBlock" in peer):
                    if not INSIDE.get(block["cidr"], set()) <= set(block.get("except", [])):
                        yield f"{where}: {block['cidr']} is not the internet alone"
        for port in (port["port"] for rule in spec.get("ingress", []) for port in rule.get("ports", [])):
            if any(port not in ports_of(pod) for pod in chosen):
                yield f"{where}: its Pods have no port {port}"


def reaches(rule, url):
    """Whether a rule leads to the namespace of a Service, on its port."""
    namespace = {"kubernetes.io/metadata.name": url.hostname.split(".")[1]}
    to = [peer.get("namespaceSelector", {}).get("matchLabels") for peer in rule.get("to", [])]
    return namespace in to and {"port": url.port} in rule.get("ports", [])


def secrets(install, facts):
    for document in install.of("Secret"):
        where = f"Secret {document['metadata']['name']}"
        if install.name != "secrets/example":
            yield f"{where}: Secrets are written down in secrets/example alone"
        for key, value in document["stringData"].items():
            if key not in facts.variables:
                yield f"{where}: herald reads no variable {key}"
            if key == DATABASE:
                yield from (f"{where}: {text}" for text in database(urlsplit(value)))
            elif SECRET_NAME.search(key) and value and not value.endswith("replace-me"):
                yield f"{where}: {key} is no placeholder"
            if key == "HERALD_TOKEN" and not value.startswith("Bearer "):
                yield f"{where}: kagent sends HERALD_TOKEN as it is, so it begins with `Bearer `"
    for document in install.of("ExternalSecret"):
        name = document["spec"]["target"]["name"]
        for entry in document["spec"].get("data", []):
            if entry["secretKey"] not in facts.secrets.get(name, ()):
                yield f"ExternalSecret {name}: the key {entry['secretKey']} is not in secrets/example"
        if name not in facts.secrets:
            yield f"ExternalSecret {name}: there is no such Secret in secrets/example"
    for document in install.of("ConfigMap"):
        for key, value in document.get("data", {}).items():
            if TOKEN.search(value) or (value and SECRET_NAME.search(key)):
                yield f"ConfigMap {document['metadata']['name']}: {key} is a secret"


def database(url):
    """The example of a database's address: no real password, and a server whose certificate is checked."""
    if url.password != "replace-me":
        yield "the password in HERALD_DATABASE_URL is no placeholder"
    if "sslmode=verify-full" not in url.query.split("&"):
        yield "nobody checks who answers at HERALD_DATABASE_URL: sslmode is not verify-full"


def servers(install, facts):
    """The addresses of tool servers and agents lead somewhere."""
    addresses = {
        f"{service['metadata']['name']}.{service['metadata']['namespace']}:{port['port']}"
        for service in install.of("Service")
        for port in service["spec"]["ports"]
        if port["name"] == "http"
    }
    for server in install.of("RemoteMCPServer"):
        where, url = f"RemoteMCPServer {server['metadata']['name']}", urlsplit(server["spec"]["url"])
        if url.netloc not in addresses or url.path != "/mcp":
            yield f"{where}: no Service stands behind {server['spec']['url']}"
        yield from headers(where, server["spec"], facts)
    for server in install.of("MCPServer"):
        where, http = f"MCPServer {server['metadata']['name']}", server["spec"].get("httpTransport")
        if http and (http["targetPort"], http["path"]) != (server["spec"]["deployment"]["port"], "/mcp"):
            yield f"{where}: kagent always calls deployment.port at /mcp"
    for document in install.of("ConfigMap"):
        url = document.get("data", {}).get("KAGENT_A2A_URL")
        agent = re.fullmatch(r"http://kagent-controller\.kagent:8083/api/a2a/([\w-]+)/([\w-]+)/", url or "")
        if url and (not agent or agent.groups() not in facts.agents):
            yield f"ConfigMap {document['metadata']['name']}: no agent of agents/ is at {url}"


def headers(where, spec, facts):
    """The token is one that Herald knows, and comes from a Secret."""
    sources = [header.get("valueFrom", {}) for header in spec.get("headersFrom", []) if header["name"] == "Authorization"]
    if len(sources) != 1 or sources[0].get("type") != "Secret":
        yield f"{where}: Herald asks for a token, and none comes from a Secret"
    for source in sources:
        if source.get("key") not in facts.secrets.get(source.get("name"), ()):
            yield f"{where}: the key {source.get('key')} of the Secret {source.get('name')} is not in secrets/example"


def files(install, facts):
    for document in install.of("ConfigMap"):
        text = document.get("data", {}).get(FILE)
        where = f"ConfigMap {document['metadata']['name']}: {FILE}"
        yield from (f"{where}: {finding}" for finding in (file(text, facts) if text is not None else ()))


def file(text, facts):
    """Herald's own file: of its schema, what is commented out too, with placeholders for hashes and an agent for each client."""
    for version in (text, uncommented(text)):
        try:
            read = yaml.safe_load(version)
        except yaml.YAMLError as error:
            yield f"is no YAML: {' '.join(str(error).split())}"
            return
        for error in facts.settings.iter_errors(filled(read)):
            yield f"{'.'.join(map(str, error.path))}: {error.message[:300]}"
        hashes = [token for client in clients(version).values() for token in client.get("tokens", [])]
        yield from (f"{token} is no placeholder: {PLACEHOLDER}" for token in hashes if token != PLACEHOLDER)
    yield from (f"the client {name} is no agent of agents/" for name in sorted(set(clients(text)) - {name for _, name in facts.agents}))


def uncommented(text):
    """The file with the settings in its comments; a sentence does not look like one."""
    return re.sub(r"^( *)# ( *[a-z_]+:(?: .*)?)$", r"\1\2", text, flags=re.M)


def filled(read):
    """The settings, as they are once the placeholders for hashes are filled in."""
    if isinstance(read, dict):
        return {key: filled(value) for key, value in read.items()}
    if isinstance(read, list):
        return [filled(value) for value in read]
    return f"sha256:{'0' * 64}" if read == PLACEHOLDER else read


def agents(install, facts):
    owners = {}
    for agent in install.of("Agent"):
        where, declarative = f"Agent {agent['metadata']['name']}", agent["spec"]["declarative"]
        if not declarative.get("a2aConfig", {}).get("skills"):
            yield f"{where}: says nothing about its skills"
        for tool in declarative["tools"]:
            server, names = tool["mcpServer"]["name"], tool["mcpServer"]["toolNames"]
            if server in facts.servers:
                yield from (f"{where}: herald has no tool {name}" for name in names if name not in facts.tools)
                yield from headers(where, tool, facts)
                name = agent["metadata"]["name"]
                if name not in facts.clients:
                    yield f"{where}: clients/ has no client of that name"
                for source in (header.get("valueFrom", {}).get("name") for header in tool.get("headersFrom", [])):
                    if owners.setdefault(source, name) != name:
                        yield f"{where}: shares the Secret {source} with {owners[source]}"
                    if source != f"herald-client-{name}":
                        yield f"{where}: its token is not the one of the client {name}: herald-client-{name}"
            changes = [name for name in names if re.search(r"delete|apply|patch|scale|rollout|exec|create|upgrade|uninstall", name)]
            for name in changes:
                if name not in tool["mcpServer"].get("requireApproval", []):
                    yield f"{where}: {name} changes something without a person's approval"


def monitors(install, facts):
    for monitor in install.of("ServiceMonitor"):
        for endpoint in monitor["spec"]["endpoints"]:
            if not any(
                selects(monitor["spec"]["selector"], service["metadata"].get("labels", {}))
                and endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
                for service in facts.services
            ):
                yield f"ServiceMonitor {monitor['metadata']['name']}: no Service has the port {endpoint['port']}"
