"""Checks manifests/ by schema, by rule and by policy; then plants mistakes and expects each to be caught."""

import sys

import facts
import mistakes
import pods
import rendering
import schemas
import wiring


def findings(install, schema, known):
    """Everything that is wrong with one rendered directory."""
    unsound = [text for document in install.documents for text in schema.findings(document)]
    # What has not the right shape is not looked into.
    yield from unsound or [*pods.findings(install, known), *wiring.findings(install, known)]


def main():
    rendering.require_kustomize(rendering.kustomize_version())
    schema = schemas.load()
    rules = schema.rules()
    installs = rendering.installs()
    known = facts.gather(installs)
    found = [*schemas.unevaluable(rules), *rendering.files_findings()]
    for install in installs:
        found += [f"{install.name}: {text}" for text in findings(install, schema, known)]
    readme = (rendering.ROOT / "README.md").read_text(encoding="utf-8")
    loose = [*rendering.whole_files(), ("README.md", list(rendering.documents_of(readme)))]
    for name, documents in loose:
        found += [f"{name}: {text}" for document in documents for text in schema.findings(document)]
    if found:
        sys.exit("\n".join(found))
    documents = sum(len(install.documents) for install in installs)
    print(f"{len(installs)} directories, {documents} documents, {len(loose)} files: sound; {len(rules)} rules evaluated")

    escaped = list(mistakes.escaped(installs, schema, known, findings))
    if escaped:
        sys.exit("\n".join(escaped))
    print(f"{mistakes.count(schema)} planted mistakes: caught")


if __name__ == "__main__":
    try:
        main()
    except rendering.Unusable as reason:
        sys.exit(f"manifests cannot be checked here: {reason}")
