#!/usr/bin/env bash
# Checks manifests/ without a cluster: run.sh WORKDIR. Needs kubectl with Kustomize 5, and in HERALD_CRDS (default
# ../shared/crds) the definitions of the custom resources.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$1
python3 -m venv "$work/manifests"
"$work/manifests/bin/pip" install --quiet --disable-pip-version-check --requirement tests/manifests/requirements.txt
PYTHONDONTWRITEBYTECODE=1 "$work/manifests/bin/python" tests/manifests/check.py
