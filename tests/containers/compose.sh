#!/usr/bin/env bash
# The compose file with three seeds, from the prebuilt image: the survey replayed and compared, a container killed,
# compared again from the survivors, everything removed.
set -euo pipefail
cd "$(dirname "$0")/../.."
project=odeon-check-$$
work=$(mktemp -d)
export ODEON_IMAGE=odeon-check:$$ POLL_PORT=0
compose() {
  if docker compose version >/dev/null 2>&1; then docker compose -f deploy/compose.yaml -p "$project" "$@"
  else docker-compose -f deploy/compose.yaml -p "$project" "$@"; fi
}
cleanup() {
  local code=$?
  [ $code = 0 ] || compose logs --tail=60 2>/dev/null || true
  compose down -v --remove-orphans -t 5 >/dev/null 2>&1 || true
  docker image rm -f "$ODEON_IMAGE" >/dev/null 2>&1 || true
  rm -rf "$work"
  exit $code
}
trap cleanup EXIT

wait_for() { # what, seconds, command…
  local what=$1 deadline=$((SECONDS + $2))
  shift 2
  until "$@" >/dev/null 2>&1; do
    if [ $SECONDS -ge $deadline ]; then
      echo "waited in vain for $what"
      return 1
    fi
    sleep 0.3
  done
}

echo "static executables"
# Static links of the release build: the objects are there already, only the last step is done again.
cargo rustc --release --quiet -p odeon-cli --bin odeon -- -C target-feature=+crt-static
cargo rustc --release --quiet -p poll --bin poll -- -C target-feature=+crt-static
mkdir "$work/state" "$work/tokens"
cp target/release/odeon target/release/poll "$work"
if ldd "$work/odeon" 2>/dev/null | grep -q '=>'; then echo "odeon is not static"; exit 1; fi
docker build -q -f docker/prebuilt.Dockerfile -t "$ODEON_IMAGE" "$work" >/dev/null

echo "three seeds"
compose up -d --no-build seed1 seed2 seed3
container() { compose ps -q "$1"; }
healthy() { [ "$(docker inspect -f '{{.State.Health.Status}}' "$(container "$1")")" = healthy ]; }
for seed in seed1 seed2 seed3; do wait_for "$seed to be healthy" 90 healthy $seed; done
compose exec -T seed1 /odeon status
url() { echo "http://$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$(container "$1")"):8080"; }

echo "the survey"
file=crates/examples/poll/data/anes96.csv
"$work/poll" replay "$file" --polls 504 --verify --url "$(url seed1)" --url "$(url seed2)" --url "$(url seed3)"

echo "one more host, without state"
compose up -d --no-build --scale agent=1 agent
wait_for "the fourth host to be healthy" 60 healthy agent
compose exec -T seed2 /odeon hosts

echo "a container is killed"
saved() { [ "$("$work/poll" saved "$(docker volume inspect -f '{{.Mountpoint}}' "${project}_seed1")/poll.sqlite")" = 5664 ]; }
wait_for "all responses to be saved" 60 saved
docker kill "$(container seed3)" >/dev/null
agrees() { timeout 20 "$work/poll" verify "$file" --polls 504 --url "$(url seed1)" --url "$(url seed2)"; }
wait_for "every tally to be right from both survivors" 60 agrees
compose exec -T seed1 /odeon hosts

echo "down and up"
convention() { compose exec -T seed1 /odeon --json status | sed -n 's/.*"convention": *"\([^"]*\)".*/\1/p'; }
before=$(convention)
[ -n "$before" ] || { echo "the status says no convention"; exit 1; }
compose down -t 20
compose up -d --no-build seed1 seed2 seed3
for seed in seed1 seed2 seed3; do wait_for "$seed to be healthy again" 90 healthy $seed; done
[ "$(convention)" = "$before" ] || { echo "it was $before before, and is $(convention) now"; exit 1; }
wait_for "every tally to be right again" 60 agrees
compose exec -T seed1 /odeon status
echo "containers: all tallies right before and after the kill, and after down and up"
