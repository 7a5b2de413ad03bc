#!/usr/bin/env bash
# Keep verdicts for all machines of a cluster: Valkey or Redis, in memory, the least used verdicts go when it is full.
#   export REDIS_PASSWORD=$(openssl rand -hex 32)      # also where the run starts
#   ./launch/cache_server.sh
# Train with reward.cache.url=redis://THIS_HOST:6380/0. Whoever knows the password can make up verdicts, and nothing is
# encrypted on its way: stay inside a network of your own.
# HOST=0.0.0.0, where it listens; with HOST=127.0.0.1 it needs no password. PORT=6380, because Ray takes 6379.
# MEMORY=8gb: about a KB a verdict, so eight million. FOLDER=... keeps the verdicts there when it is stopped. SERVER=...
# the executable (default valkey-server, else redis-server: `apt install valkey-server`, or redis-server).
set -euo pipefail
HOST=${HOST:-0.0.0.0}
PORT=${PORT:-6380}
MEMORY=${MEMORY:-8gb}

fail() { echo "cache_server: $*" >&2; exit 2; }
case ${1:-} in
  -h | --help) sed -n '2,/^[^#]/s/^# //p' "${BASH_SOURCE[0]}"; exit 0 ;;
  ?*) fail "unknown word $1; it is set by variables, see ./launch/cache_server.sh --help" ;;
esac
SERVER=${SERVER:-$(command -v valkey-server || command -v redis-server || true)}
[[ -n $SERVER ]] || fail "neither valkey-server nor redis-server is installed; install one, or name it with SERVER"
[[ $PORT =~ ^[1-9][0-9]*$ ]] || fail "PORT is '$PORT'; give a whole number"
if [[ -z ${REDIS_PASSWORD:-} && $HOST != 127.0.0.1 ]]; then
  fail "REDIS_PASSWORD is not set, and anyone could make up verdicts; export it, or set HOST=127.0.0.1"
fi
[[ ${REDIS_PASSWORD:-} != *[[:space:]\"\\]* ]] || fail "REDIS_PASSWORD holds a space, a quote or a backslash; use others"
settings=("bind $HOST" "port $PORT" "maxmemory $MEMORY" "maxmemory-policy allkeys-lru")
# Read from a pipe: ps shows every command line to everyone on the machine.
[[ -z ${REDIS_PASSWORD:-} ]] || settings+=("requirepass $REDIS_PASSWORD")
if [[ -n ${FOLDER:-} ]]; then
  mkdir -p "$FOLDER"
  settings+=("dir $FOLDER" "save 300 1")
else
  settings+=('save ""')
fi
exec "$SERVER" - < <(printf '%s\n' "${settings[@]}")
