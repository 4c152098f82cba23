#!/usr/bin/env bash
# Checks manifests/monitoring against what Herald really says: run.sh WORKDIR. Needs promtool (Debian: prometheus) and cargo.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$1
mkdir -p "$work/metrics"
# The scripted runs leave what they scraped there.
HERALD_METRICS_OUT=$work/metrics cargo test --quiet --locked --test it metrics::
python3 -m venv "$work/monitoring"
"$work/monitoring/bin/pip" install --quiet --disable-pip-version-check --requirement tests/monitoring/requirements.txt
PYTHONDONTWRITEBYTECODE=1 "$work/monitoring/bin/python" tests/monitoring/check.py "$work" "$work"/metrics/*.txt
