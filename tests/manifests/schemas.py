"""Judges documents by the schemas of Kubernetes and of the custom resource definitions, refusing every unknown field."""

import copy
import json
import os
import re
from pathlib import Path

import cel
import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from rendering import ROOT, Unusable

# The oldest Kubernetes that the manifests are for, and the newest that the library knows.
KUBERNETES = ["1.30", "1.37"]
# What the rules may call: what the library evaluates as Kubernetes does. The API server knows more.
CEL_FUNCTIONS = {"has", "size", "all", "exists", "exists_one", "map", "filter", "startsWith", "endsWith", "contains", "matches"}
# Rules that cannot be evaluated here, each with the reason. None so far.
UNEVALUABLE = {}


class Schemas:
    """Kubernetes' schemas and those of the definitions in one directory (one folder for each project and version)."""

    def __init__(self, directory):
        self.definitions = {}
        self.judged = {}
        files = sorted(directory.glob("*/*.yaml"))
        if not files:
            raise Unusable(f"{directory} holds no custom resource definitions: set HERALD_CRDS to their directory")
        for file in files:
            for document in yaml.load_all(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader):
                if document and document.get("kind") == "CustomResourceDefinition":
                    self._add(file.parent.name, document["spec"])

    def _add(self, folder, spec):
        for version in spec["versions"]:
            name = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
            if version.get("served", True):
                schema = version["schema"]["openAPIV3Schema"]
                self.definitions.setdefault(name, {})[folder] = (schema, Draft202012Validator(root(schema)))

    def rules(self):
        """Each distinct rule of all definitions."""
        return sorted({rule for kinds in self.definitions.values() for schema, _ in kinds.values() for rule in rules_in(schema)})

    def findings(self, document):
        """What is wrong with one document, in words. The same document is looked at once."""
        text = json.dumps(document)
        if text not in self.judged:
            self.judged[text] = list(self._findings(document))
        return self.judged[text]

    def _findings(self, document):
        kind, metadata = document.get("kind"), document.get("metadata") or {}
        where = f"{kind} {metadata.get('name')}"
        definitions = self.definitions.get((document.get("apiVersion"), kind))
        if definitions is None:
            yield from (f"{where}: {text}" for text in kubernetes_findings(document))
            return
        # The definitions leave metadata open; every kind's is the same.
        yield from (f"{where}: {text}" for text in kubernetes_findings({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}))
        for folder, (schema, validator) in definitions.items():
            error = best_match(validator.iter_errors(document))
            if error:
                yield f"{where}, {folder}: {'.'.join(map(str, error.path))}: {error.message[:300]}"
            else:
                for text in rule_findings(schema, with_defaults(schema, document), ""):
                    yield f"{where}, {folder}: {text}"


def load():
    """The schemas, with the definitions where HERALD_CRDS says."""
    return Schemas(Path(os.environ.get("HERALD_CRDS") or ROOT.parent / "shared" / "crds"))


def kubernetes_findings(document):
    if "apiVersion" not in document or "kind" not in document:
        yield "says no apiVersion or no kind"
        return
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            yield f"Kubernetes {version} has no {document.get('apiVersion')} {document.get('kind')}, and no definition is known"
        except kubernetes_validate.ValidationError as error:
            yield f"Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message[:300]}"


def root(schema):
    """The JSON Schema of a whole document: what every document has besides is judged elsewhere."""
    whole = closed(schema)
    whole["properties"] |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
    return whole


def closed(schema):
    """A definition's schema as a JSON Schema in which an unknown field is an error, as `kubectl --validate=strict` sees it."""
    result = {key: value for key, value in schema.items() if not key.startswith("x-") and key != "nullable"}
    if schema.get("x-kubernetes-int-or-string"):
        result.pop("type", None)
    if schema.get("nullable") and "type" in result:
        result["type"] = [result["type"], "null"]
    if "properties" in schema:
        result["properties"] = {name: closed(value) for name, value in schema["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            result[key] = closed(schema[key])
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if schema.get("type") == "object" and not is_open:
        result["additionalProperties"] = False
    return result


def with_defaults(schema, value):
    """The value as the API server completes it before it looks at the rules."""
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        missing = {name: s["default"] for name, s in properties.items() if "default" in s and name not in value}
        other = schema.get("additionalProperties")
        other = other if isinstance(other, dict) else {}
        completed = value | copy.deepcopy(missing)
        return {name: with_defaults(properties.get(name, other), item) for name, item in completed.items()}
    if isinstance(value, list):
        return [with_defaults(schema.get("items", {}), item) for item in value]
    return value


def rules_in(schema):
    """Each rule in a schema, at any depth."""
    if isinstance(schema, list):
        for item in schema:
            yield from rules_in(item)
    elif isinstance(schema, dict):
        yield from (rule["rule"] for rule in schema.get("x-kubernetes-validations", []))
        for item in schema.values():
            yield from rules_in(item)


def unevaluable(rules):
    """The rules that cannot be evaluated here and are not known for it."""
    for rule in rules:
        if rule in UNEVALUABLE:
            continue
        try:
            cel.compile(rule)
        except ValueError as error:
            yield f"rule does not compile: {rule}: {error}"
        unknown = set(re.findall(r"(\w+)\(", rule)) - CEL_FUNCTIONS
        if unknown or "oldSelf" in rule:
            yield f"rule cannot be evaluated here ({', '.join(sorted(unknown)) or 'oldSelf'}): {rule}"


def rule_findings(schema, value, path):
    """What the rules of a definition say against a value."""
    for rule in schema.get("x-kubernetes-validations", []):
        if rule["rule"] in UNEVALUABLE:
            continue
        try:
            holds = cel.evaluate(rule["rule"], {"self": value})
        except (RuntimeError, TypeError, ValueError) as error:
            yield f"{path}: rule cannot be evaluated: {rule['rule']}: {error}"
            continue
        if holds is not True:
            yield f"{path}: {rule.get('message', rule['rule'])}"
    if isinstance(value, dict):
        other = schema.get("additionalProperties")
        other = other if isinstance(other, dict) else {}
        for name, item in value.items():
            yield from rule_findings(schema.get("properties", {}).get(name, other), item, f"{path}.{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from rule_findings(schema.get("items", {}), item, f"{path}.{index}")
