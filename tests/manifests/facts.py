"""What the policy compares the manifests with: Herald's own sources, and the manifests of the other directories."""

import json
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

import yaml
from jsonschema import Draft202012Validator

from rendering import ROOT

# Read by libraries, not by Herald's own table.
STANDARD = {"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE"}
# The key of a ConfigMap that holds Herald's own file.
FILE = "herald.yaml"


@dataclass
class Facts:
    """Names that have to fit together."""

    variables: set
    commands: set
    flags: set
    tools: set
    secrets: dict
    databases: list
    config_maps: dict
    services: list
    agents: set
    servers: set
    clients: set
    settings: Draft202012Validator
    version: str
    drain: int


def gather(installs):
    everything = [document for install in installs for document in install.documents]
    command_line = "\n".join(path.read_text(encoding="utf-8") for path in [*ROOT.glob("src/cli.rs"), *ROOT.glob("src/cli/*.rs")])
    commands = re.search(r"enum Command \{(.*?)^\}", command_line, re.M | re.S).group(1)
    own = {"RemoteMCPServer", "MCPServer"}
    return Facts(
        variables=variables(command_line),
        commands={name.lower() for name in re.findall(r"^    ([A-Z]\w+)", commands, re.M)},
        flags={name.replace("_", "-") for name in re.findall(r"^ +(\w+): ", command_line, re.M)},
        tools={json.loads(snapshot(path))["name"] for path in tool_snapshots()},
        secrets={d["metadata"]["name"]: set(d["stringData"]) for d in everything if d["kind"] == "Secret"},
        databases=[
            urlsplit(d["stringData"]["HERALD_DATABASE_URL"])
            for d in everything
            if d["kind"] == "Secret" and "HERALD_DATABASE_URL" in d["stringData"]
        ],
        config_maps={d["metadata"]["name"]: d.get("data", {}) for d in everything if d["kind"] == "ConfigMap"},
        services=[d for d in everything if d["kind"] == "Service"],
        agents={(d["metadata"]["namespace"], d["metadata"]["name"]) for d in everything if d["kind"] == "Agent"},
        servers={d["metadata"]["name"] for d in everything if d["kind"] in own},
        clients={name for d in everything if d["kind"] == "ConfigMap" for name in clients(d.get("data", {}).get(FILE))},
        settings=Draft202012Validator(json.loads(snapshot(ROOT / "src/snapshots/herald__config__tests__schema.snap"))),
        version=re.search(r'^version = "(.+)"', (ROOT / "Cargo.toml").read_text(encoding="utf-8"), re.M).group(1),
        drain=int(re.search(r"DRAIN: Duration = Duration::from_secs\((\d+)\)", (ROOT / "src/server.rs").read_text(encoding="utf-8")).group(1)),
    )


def clients(text):
    """The clients in Herald's own file."""
    return ((yaml.safe_load(text) or {}).get("clients") or {}) if text else {}


def variables(command_line):
    """Every variable that Herald reads, as its sources say."""
    table = (ROOT / "src/config/environment.rs").read_text(encoding="utf-8")
    rows = re.findall(r'name: "(\w+)".*?set: Set::(\w+)', table, re.S)
    files = {f"{name}_FILE" for name, kind in rows if kind == "Secret"}
    flags = set(re.findall(r'env = "(\w+)"', command_line))
    assert len(rows) > 20 and flags, "src/config/environment.rs or src/cli.rs is not written as this check expects"
    return {name for name, _ in rows} | files | flags | STANDARD


def tool_snapshots():
    return [path for path in ROOT.glob("src/mcp/snapshots/*__tools__tests__*.snap") if '"inputSchema"' in path.read_text(encoding="utf-8")]


def snapshot(path):
    """The content of a snapshot, below its header."""
    return path.read_text(encoding="utf-8").split("---\n", 2)[2]
