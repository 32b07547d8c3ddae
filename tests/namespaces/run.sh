#!/usr/bin/env bash
# Hosts in network namespaces of their own: tests/namespaces/run.sh [short|full] [SCENARIO…]
# Needs root, iproute2 and nftables. All happens in namespaces that end with this process, whatever becomes of it.
set -euo pipefail
cd "$(dirname "$0")/../.."
form=short
case ${1:-} in short | full) form=$1; shift ;; esac

cargo build --release --quiet
built=$(cargo test --release --quiet -p odeon-tests --test namespaces --no-run --message-format=json)
program=$(sed -n 's/.*"executable":"\([^"]*namespaces-[^"]*\)".*/\1/p' <<<"$built")

# An own network, and an own /run/netns for the names of those in it: the machine's are not touched.
export ODEON_NAMESPACES=$form
exec unshare --net --mount sh -c '
  mkdir -p /run/netns && mount -t tmpfs none /run/netns && exec "$@"' sh \
  "$program" --ignored --nocapture --test-threads=1 "$@"
