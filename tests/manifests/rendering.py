"""Reads manifests/: its files as they are, and what Kustomize makes of each directory."""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "manifests"
# How a file can name an image. `image: herald` leaves it to manifests/image.
NAMES_IMAGE = re.compile(r"^[\s-]*(?:images|newName|newTag|digest):|^[\s-]*image: (?!herald$)|^[\s-]*path: \S*/image$", re.M)


class Unusable(Exception):
    """The checks cannot run here; the text says what to install."""


@dataclass
class Install:
    """What one `kubectl apply -k` would create."""

    name: str
    documents: list

    def of(self, *kinds):
        return [document for document in self.documents if document["kind"] in kinds]


def kustomize_version():
    """The version of Kustomize inside kubectl."""
    try:
        answer = subprocess.run(
            ["kubectl", "version", "--client", "-o", "json"], capture_output=True, text=True, check=True
        )
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise Unusable(f"kubectl does not run ({error}): install kubectl 1.27 or newer") from error
    return json.loads(answer.stdout).get("kustomizeVersion", "v0")


def require_kustomize(version):
    """Refuses what is older than Kustomize 5: it reads the files differently. No package registry has a newer one."""
    major = re.match(r"v?(\d+)\.", version)
    if not major or int(major.group(1)) < 5:
        raise Unusable(f"kubectl holds Kustomize {version}, and 5 is needed: install kubectl 1.27 or newer")


def render(directory):
    """The documents that Kustomize makes of a directory. Kustomize itself refuses unknown fields of kustomization.yaml."""
    made = subprocess.run(["kubectl", "kustomize", str(directory)], capture_output=True, text=True, check=False)
    # A deprecated field is only warned about.
    if made.returncode != 0 or "Warning" in made.stderr:
        raise ValueError(f"{directory}: {made.stderr.strip()}")
    return parse(made.stdout)


def installs():
    """Every directory with a kustomization.yaml, rendered; a component is rendered within those that use it."""
    directories = sorted(path.parent for path in MANIFESTS.rglob("kustomization.yaml") if not is_component(path))
    return [Install(str(path.relative_to(MANIFESTS)), render(path)) for path in directories]


def is_component(path):
    return parse(path.read_text(encoding="utf-8"))[0]["kind"] == "Component"


def parse(text):
    return [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document is not None]


def whole_files():
    """Each file that Kustomize takes as a resource, with its documents; patches are judged by what they make."""
    for path in sorted(MANIFESTS.rglob("kustomization.yaml")):
        for resource in parse(path.read_text(encoding="utf-8"))[0].get("resources", []):
            file = path.parent / resource
            if file.is_file():
                yield str(file.relative_to(ROOT)), parse(file.read_text(encoding="utf-8"))


def files_findings(directory=MANIFESTS):
    """Every file opens with what it is for, some kustomization.yaml uses it, and one directory alone names the image."""
    used = set()
    for path in directory.rglob("kustomization.yaml"):
        text = path.read_text(encoding="utf-8")
        used.update((path.parent / word).resolve() for word in re.findall(r"[\w./-]+", text))
    for path in sorted(directory.rglob("*.y*ml")):
        name, text = path.relative_to(directory), path.read_text(encoding="utf-8")
        if not re.match(r"# \S", text):
            yield f"{name}: does not open with a comment that says what it is for"
        if path.name != "kustomization.yaml" and path.resolve() not in used:
            yield f"{name}: no kustomization.yaml beside it uses it"
        if name.parts[0] != "image" and NAMES_IMAGE.search(text):
            yield f"{name}: names an image, which image/kustomization.yaml does for all"


def documents_of(markdown):
    """The manifests in the YAML blocks of a page."""
    for block in re.findall(r"^```ya?ml\n(.*?)^```", markdown, re.M | re.S):
        if re.search(r"^kind:", block, re.M):
            yield from parse(block)
