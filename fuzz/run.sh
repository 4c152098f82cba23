#!/usr/bin/env bash
# Runs every fuzz target for a while: fuzz/run.sh [SECONDS] [TARGET ...]
#
# 30 s each, unless it is told otherwise, two at a time. Exits with 3 if any of them finds something; the input that does it is
# in fuzz/artifacts/TARGET/, and its path is printed. Nothing else in the tree changes: what a run adds to a corpus is thrown
# away, unless HERALD_FUZZ_CORPUS names a directory that keeps it.
#
# It needs cargo-fuzz and a C++ compiler. Without a sanitizer the stable toolchain will do: there is no `unsafe` in Herald,
# and what counts here is which inputs break a promise. HERALD_FUZZ_SANITIZER=address looks at the libraries' memory, too.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-30}
shift || true
sanitizer=${HERALD_FUZZ_SANITIZER:-none}
flags=(--sanitizer "$sanitizer" --codegen-units 16)
[ "$sanitizer" = none ] || export RUSTC_BOOTSTRAP=1
# `cargo fuzz` has no `--locked`.
cargo metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null
cargo fuzz build "${flags[@]}"
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo fuzz list)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
keep=${HERALD_FUZZ_CORPUS:-$work/corpus}
triple=$(rustc -vV | sed -n 's/^host: //p')
binaries=fuzz/target/$triple/release

fuzz() {
  local target=$1 found=fuzz/artifacts/$1/ options=(-max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=16384 -print_final_stats=1)
  mkdir -p "$keep/$target" "$found"
  [ ! -f "fuzz/dictionaries/$target.dict" ] || options+=(-dict="fuzz/dictionaries/$target.dict")
  # The first directory takes what is new, the second is only read.
  if "$binaries/$target" -artifact_prefix="$found" "${options[@]}" "$keep/$target" "fuzz/corpus/$target" \
    >"$work/$target.log" 2>&1; then
    echo "$target: $(sed -n 's/^Done \(.*\)/\1/p' "$work/$target.log"), $(grep -o 'cov: [0-9]*' "$work/$target.log" | tail -1)"
  else
    tail -60 "$work/$target.log"
    echo "$target: FOUND $(sed -n 's/.*Test unit written to //p' "$work/$target.log")"
    return 1
  fi
}

failed=0
running=0
for target in "${targets[@]}"; do
  fuzz "$target" &
  running=$((running + 1))
  if [ "$running" -ge 2 ]; then
    wait -n || failed=3
    running=$((running - 1))
  fi
done
while [ "$running" -gt 0 ]; do
  wait -n || failed=3
  running=$((running - 1))
done
exit "$failed"
