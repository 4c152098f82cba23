#!/usr/bin/env bash
# Herald's image, as a restricted Pod would run it: builds the Dockerfile's final stage without a daemon, and runs it as
# 65532 on a read-only root with an empty /tmp and nothing else there, as PID 1, with no way to gain privileges and no
# network but loopback.
# usage: run.sh HERALD      (as root; HERALD has the sandbox; Debian's buildah, iproute2, jq and musl-tools, Rust's musl
#                            target, and `npm install` in tests/clients)
set -euo pipefail
herald=$1 work=${2:-}
repository=$(cd "$(dirname "$0")/../.." && pwd)
target=x86_64-unknown-linux-musl
build_images() { buildah --root "$work/images" --runroot "$work/containers" --storage-driver vfs "$@"; }
files_of() { build_images mount "$(build_images from --pull-never "$1")"; } # files_of IMAGE: the directory that shows them

if [ -z "$work" ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  # What a builder is sent, and nothing else: where it does not suffice, this build fails.
  printf 'FROM scratch\nCOPY . /\n' >"$work/everything"
  build_images build -q --ignorefile "$repository/.dockerignore" -f "$work/everything" -t context "$repository" >/dev/null
  rm -rf "$repository/target/image" && mkdir -p "$repository/target"
  # Always at the same place and with the files' own times, so that Cargo knows what it has built before.
  cp -a "$(files_of context)" "$repository/target/image"
  # The Dockerfile's own words.
  cargo_build=$(grep -o 'cargo build .*--target "$target"' "$repository/Dockerfile")
  (cd "$repository/target/image" && export CARGO_TARGET_DIR=$repository/target && eval "$cargo_build")
  # Mounts and ports of its own from here on: they vanish with the last process.
  unshare --mount --net -- bash "$0" "$herald" "$work"
  exit
fi

failed=0
ok() { echo "ok    $1"; }
fail() { echo "FAIL  $1"; failed=1; }
is() { if [ "$2" = "$3" ]; then ok "$1"; else fail "$1: \`$2\`, not \`$3\`"; fi } # is WHAT ACTUAL EXPECTED
less() { if [ "$2" -lt "$3" ]; then ok "$1: $2"; else fail "$1: $2, not less than $3"; fi } # less WHAT ACTUAL LIMIT
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT

# --- What is in it. The build stage is played by a directory: it holds what that stage would have made.
stage=$work/build
mkdir -p "$stage/out/data" "$stage/etc/ssl/certs"
cp "$repository/target/$target/release/herald" "$stage/out/herald"
cp /etc/ssl/certs/ca-certificates.crt "$stage/etc/ssl/certs/"
build_images build -q --platform linux/amd64 --format docker --isolation chroot --build-context build="$stage" \
  --build-arg VERSION=1.2.3 --build-arg REVISION=0123abc --build-arg CREATED=2023-11-14T22:13:20Z \
  -t herald "$repository" >/dev/null
config=$(build_images inspect --type image herald | jq .Docker.config)
of_config() { jq -r "$1" <<<"$config"; }
is "its user" "$(of_config .User)" 65532:65532
is "it has no HEALTHCHECK" "$(of_config .Healthcheck)" null
is "\`herald\` is found in it" "$(of_config '.Env[]' | grep ^PATH=)" PATH=/usr/bin
is "its ports" "$(of_config '.ExposedPorts | keys | join(" ")')" "3000/tcp 9090/tcp"
label() { of_config ".Labels[\"org.opencontainers.image.$1\"]"; }
is "its labels" "$(label title) $(label version) $(label revision) $(label created) $(label licenses)" \
  "Herald 1.2.3 0123abc 2023-11-14T22:13:20Z Apache-2.0"
is "its description is the crate's" "$(label description)" "$(sed -n 's/^description = "\(.*\)"/\1/p' "$repository/Cargo.toml")"
image=$(files_of herald)
is "its files" "$(cd "$image" && find . -mindepth 1 -printf '%M %U:%G %P\n' | LC_ALL=C sort -k3)" "drwxr-xr-x 65532:65532 data
drwxr-xr-x 0:0 etc
drwxr-xr-x 0:0 etc/ssl
drwxr-xr-x 0:0 etc/ssl/certs
-rw-r--r-- 0:0 etc/ssl/certs/ca-certificates.crt
drwxr-xr-x 0:0 usr
drwxr-xr-x 0:0 usr/bin
-rwxr-xr-x 0:0 usr/bin/herald"
less "its size in bytes, unpacked" "$(find "$image" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum }')" 20000000
interpreter=$(readelf --program-headers "$image/usr/bin/herald" | grep -c INTERP || true)
needed=$(readelf --dynamic "$image/usr/bin/herald" | grep -c NEEDED || true)
is "its binary needs no loader and no library" "$interpreter $needed" "0 0"

# --- The roots it runs on. `pod`: read-only, an empty /tmp, a volume at /data as `fsGroup: 65532` makes it. `bare`, as kmcp
# starts `stdio`: the files of the image alone, and not even /data.
pod=$work/pod bare=$work/bare
for root in "$pod" "$bare"; do
  mkdir "$root"
  mount -t tmpfs tmpfs "$root"
  cp -a "$image/." "$root"
done
mkdir "$pod/tmp"
rmdir "$bare/data"
for root in "$pod" "$bare"; do
  mount -o remount,ro "$root"
  if touch "$root/written" 2>/dev/null; then fail "its root can be written"; fi
done
mount -t tmpfs -o mode=1777 tmpfs "$pod/tmp"
mount -t tmpfs -o mode=2770,gid=65532 tmpfs "$pod/data"

# --- A chat workspace for it, on loopback.
ip link set lo up
sandbox=http://127.0.0.1:3917
"$herald" sandbox --no-bot --listen 127.0.0.1:3917 >"$work/sandbox.out" 2>"$work/sandbox.err" &
for _ in $(seq 100); do curl -fs "$sandbox/healthz" >/dev/null && break; sleep 0.1; done
curl -fs "$sandbox/healthz" >/dev/null || { cat "$work/sandbox.err"; exit 1; }
eval "$(grep -E '^ *export ' "$work/sandbox.out")"
mapfile -t workspace < <(env | grep -E '^(SLACK|DISCORD|TELEGRAM|KAGENT)_')
mapfile -t image_env < <(of_config '.Env[]')
mapfile -t serve < <(of_config '.Entrypoint[], .Cmd[]')
as_user=("$(command -v setpriv)" --no-new-privs "$(command -v chroot)" --userspec="$(of_config .User)")
token=an-image-needs-a-token
in_pod() { env -i "${image_env[@]}" "${workspace[@]}" "${as_user[@]}" "$pod" "$@"; }
start() { # start COMMAND…: as the container's first process, until it is ready
  unshare --pid --fork --kill-child -- env -i "${image_env[@]}" "${workspace[@]}" HERALD_TOKEN="$token" \
    "${as_user[@]}" "$pod" "$@" 2>"$work/log" &
  container=$!
  for _ in $(seq 100); do in_pod /usr/bin/herald healthcheck --ready 2>"$work/unready" && break; sleep 0.1; done
  process=$(pgrep -P "$container") || { cat "$work/log"; return 1; }
}
stop() { # stop WHAT: SIGTERM, and how long the end takes
  local began=${EPOCHREALTIME/[.,]/} status=0
  kill -TERM "$process"
  wait "$container" || status=$?
  is "$1 ends well" "$status" 0
  less "$1 ends so many ms after SIGTERM" $(((${EPOCHREALTIME/[.,]/} - began) / 1000)) 2000
}

# --- The MCP server.
status=0
refusal=$(in_pod "${serve[@]}" 2>&1) || status=$?
is "without HERALD_TOKEN it does not start" "$status" 2
case $refusal in *HERALD_TOKEN*) ok "… and names it" ;; *) fail "it says: $refusal" ;; esac
start "${serve[@]}"
in_status() { sed -n "s/^$1:\s*//p" "/proc/$process/status" | tr '\t' ' '; }
is "it runs as" "$(in_status Uid) $(in_status Gid)" "65532 65532 65532 65532 65532 65532 65532 65532"
is "it is PID 1, without capabilities, and can gain none" \
  "$(in_status NSpid | cut -d' ' -f2) $(in_status CapEff) $(in_status NoNewPrivs)" "1 0000000000000000 1"
echo "      idle it holds $(in_status VmRSS)"
for path in healthz readyz; do
  is "/$path" "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:3000/$path")" 200
done
is "/metrics, on a port of its own" "$(curl -s http://127.0.0.1:9090/metrics | grep -c '^herald_store_up 1')" 1
is "/mcp without a token" "$(curl -s -o /dev/null -w '%{http_code}' -d '{}' http://127.0.0.1:3000/mcp)" 401
in_pod /usr/bin/herald healthcheck && ok "herald healthcheck" || fail "herald healthcheck"
# Inspector's `stdio` half runs the image too, on the bare root.
printf '#!/bin/sh\nexec env %s "$@"\n' "${image_env[*]@Q} ${as_user[*]@Q} $bare ${serve[0]}" >"$work/herald"
chmod +x "$work/herald"
bash "$repository/tests/clients/inspector.sh" "$work/herald" "$sandbox" http://127.0.0.1:3000/mcp "$token" || failed=1
stop serve
in_pod /usr/bin/herald healthcheck 2>/dev/null && fail "healthcheck of a server that is gone" || ok "then herald healthcheck fails"

# --- The bot.
start /usr/bin/herald bot
in_pod /usr/bin/herald healthcheck --ready && ok "bot: herald healthcheck --ready" || fail "bot: $(cat "$work/unready")"
stop bot

is "/tmp is empty" "$(ls -A "$pod/tmp")" ""
is "/data holds Herald's directory alone" "$(ls -A "$pod/data")" herald
exit "$failed"
