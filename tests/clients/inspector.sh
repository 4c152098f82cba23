#!/usr/bin/env bash
# MCP Inspector against a sandbox: lists and calls every tool, in both protocol eras, over HTTP and stdio.
# usage: inspector.sh HERALD BASE_URL [MCP_URL TOKEN]      (node and the packages of package.json on the PATH's `node_modules`)
set -uo pipefail
herald=$1 base=$2
# A server on that sandbox that is not the sandbox's own, and the token it asks for.
mcp=${3:-$base/mcp} authorization=(${4:+--header "Authorization: Bearer $4"})
here=$(cd "$(dirname "$0")" && pwd)
inspector="$here/node_modules/.bin/mcp-inspector"
failed=0
complaints=$(mktemp)
trap 'rm -f "$complaints"' EXIT

# What people would see in a channel.
shown() { curl -fsS "$base/sandbox/api/messages?channel=$1"; }

over_http() { "$inspector" --cli --server-url "$mcp" --transport http "${authorization[@]}" "$@"; }
# Inspector gives a child only what it is told to: the exports of `herald sandbox`, one -e each.
mapfile -t variables < <(env | grep -E '^(SLACK|DISCORD|TELEGRAM)_' | sed 's/^/-e\n/')
over_stdio() { "$inspector" --cli "${variables[@]}" "$herald" stdio "$@"; }

check() { # check WHAT PATTERN: the text on stdin holds the pattern
  local text; text=$(cat)
  if grep -qF -- "$2" <<<"$text"; then
    echo "ok    $1"
  else
    echo "FAIL  $1: no \`$2\` in: ${text:0:800}"; failed=1
  fi
}

for transport in http stdio; do
  for era in legacy modern; do
    run="over_$transport"
    strict=$("$run" --protocol-era "$era" --method tools/list --strict 2>"$complaints") || failed=1
    # What --strict has to say goes to stderr; so does Herald's log.
    if grep -v ' INFO ' "$complaints" | grep -q .; then echo "FAIL  $transport $era --strict: $(cat "$complaints")"; failed=1; fi
    for tool in send_message_to_slack send_message_to_discord send_message_to_telegram update_message list_channels get_delivery; do
      check "$transport $era lists $tool" "\"$tool\"" <<<"$strict"
    done
    while read -r tool argument channel id; do
      text="from Inspector over $transport, $era era"
      "$run" --protocol-era "$era" --method tools/call --tool-name "$tool" \
        --tool-arg "$argument=$id" --tool-arg text="**hi** $text" 2>&1 | check "$transport $era $tool answers" delivered
      shown "$channel" | check "$transport $era $channel shows it" "$text"
    done <<'CALLS'
send_message_to_slack channel_id slack:C0ALERTS C0ALERTS
send_message_to_discord channel_id discord:100000000000000001 100000000000000001
send_message_to_telegram chat_id telegram:-1001000000001 -1001000000001
CALLS
  done
  refused=$("over_$transport" --method tools/call --tool-name send_message_to_slack \
    --tool-arg channel_id=C0PRIVATE --tool-arg text=no 2>&1) && { echo "FAIL  $transport: C0PRIVATE was not refused"; failed=1; }
  check "$transport C0PRIVATE is refused and the allowed ones are named" "C0ALERTS (alerts)" <<<"$refused"
  "over_$transport" --method tools/call --tool-name list_channels 2>&1 | check "$transport list_channels" C0ALERTS
done
shown slack:C0PRIVATE | check "nothing reached C0PRIVATE" "[]"
exit "$failed"
