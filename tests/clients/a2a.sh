#!/usr/bin/env bash
# Herald's A2A client against real servers of the official SDK, 0.3 and 1.0: starts them, runs the test, ends them.
# usage: a2a.sh VENVS      (a directory; VENVS/a2a-0.3 and VENVS/a2a-1.0 are made in it unless they are there)
set -euo pipefail
venvs=$1
here=$(cd "$(dirname "$0")" && pwd)
servers=()
# The servers grumble about every connection that is broken on purpose; it is only of interest when something fails.
complaints=$(mktemp)
cleanup() {
  local status=$?
  for server in "${servers[@]}"; do kill "$server" 2>/dev/null || true; done
  wait
  [ "$status" = 0 ] || tail -n 100 "$complaints" >&2
  rm -f "$complaints"
}
trap cleanup EXIT

install() { # install VENV REQUIREMENT
  [ -x "$venvs/$1/bin/uvicorn" ] && return
  python3 -m venv "$venvs/$1"
  "$venvs/$1/bin/pip" install --quiet --disable-pip-version-check "a2a-sdk[http-server]$2" 'uvicorn>=0.30,<1'
}
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
start() { # start VENV PORT: answers once the agent's card is there
  "$venvs/$1/bin/python" "$here/a2a_server.py" "$2" >>"$complaints" 2>&1 &
  servers+=($!)
  for _ in $(seq 150); do
    curl -fs "http://127.0.0.1:$2/agent/.well-known/agent-card.json" >/dev/null && return
    kill -0 "${servers[-1]}" || break
    sleep 0.2
  done
  echo "the agent of $1 does not start" >&2
  return 1
}

install a2a-0.3 '==0.3.26'
install a2a-1.0 '>=1.3,<2'
old=$(free_port)
start a2a-0.3 "$old"
new=$(free_port)
start a2a-1.0 "$new"
HERALD_TEST_REQUIRE_A2A=1 \
HERALD_TEST_A2A_03=http://127.0.0.1:$old/agent \
HERALD_TEST_A2A_10=http://127.0.0.1:$new/agent \
  cargo test --locked --test it -- agents::
