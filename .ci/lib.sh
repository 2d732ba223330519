# Functions that the suites of .ci share; they are sourced. A suite stands in the root of the
# repository afterwards, has an empty directory $work, and leaves no process and no file behind.
#
# CI_NOT_RUN, if set, names a file that takes a line for each suite that could not run. With
# CI_REQUIRE=all a suite that cannot run fails. CI_PROGRAM, if set, is the program, built already.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d)
pids=()   # processes that end with the suite
at_end=() # commands that run then, the last first
finish() {
  local i
  for i in "${pids[@]}"; do kill "$i" 2>/dev/null || true; done
  wait 2>/dev/null || true
  for ((i = ${#at_end[@]} - 1; i >= 0; i--)); do eval "${at_end[i]}" >/dev/null 2>&1 || true; done
  rm -rf "$work"
}
trap finish EXIT

fail() {
  echo "$*" >&2
  exit 1
}

# not_run REASON: this suite cannot run here.
not_run() {
  echo "not run: $*"
  [ -z "${CI_NOT_RUN:-}" ] || echo "$(basename "$0"): $*" >>"$CI_NOT_RUN"
  [ "${CI_REQUIRE:-}" = all ] && exit 1
  exit 0
}

# need_root WHAT: this suite does WHAT, which needs root.
need_root() { [ "$(id -u)" = 0 ] || not_run "$* needs root"; }

# need COMMAND... [-- PACKAGE...]: installs Debian's packages unless all commands are there.
need() {
  local commands=() c missing=
  while [ $# -gt 0 ] && [ "$1" != -- ]; do commands+=("$1"); shift; done
  [ $# = 0 ] || shift
  for c in "${commands[@]}"; do command -v "$c" >/dev/null || missing=$c; done
  [ -n "$missing" ] || return 0
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${@:-${commands[@]}}"; } \
    >"$work/apt.log" 2>&1 || not_run "$missing is not there, and cannot be installed"
}

# program: puts the program into $work/skerry.
program() {
  if [ -n "${CI_PROGRAM:-}" ]; then
    cp "$CI_PROGRAM" "$work/skerry"
  else
    go build -o "$work/skerry" ./cmd/skerry
  fi
}

# spaces NAME...: makes network namespaces.
spaces() {
  local s
  for s in "$@"; do
    ip netns add "$s" 2>/dev/null || not_run "this system does not allow network namespaces"
    at_end+=("ip netns del $s")
    ip -n "$s" link set lo up
  done
}

# until_true COMMAND...: for up to a minute. What it said last is shown if that was in vain.
until_true() {
  local end=$((SECONDS + 60))
  until "$@" >"$work/until" 2>&1; do
    [ $SECONDS -lt $end ] || {
      echo "never succeeded: $*" >&2
      cat "$work/until" >&2
      return 1
    }
    sleep 0.1
  done
}

# listens PORT: somebody listens at a port of the loopback interface.
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# free_port prints one at which nobody listens.
free_port() {
  local p
  for _ in $(seq 100); do
    p=$((20000 + RANDOM % 12000))
    listens "$p" || { echo "$p"; return; }
  done
  return 1
}

# start NAME COMMAND...: runs a command in the background, with its output in $work/NAME.log.
start() {
  local name=$1
  shift
  "$@" >"$work/$name.log" 2>&1 &
  pids+=($!)
}

# end: ends what was started last, and waits for it.
end() {
  kill "${pids[-1]}"
  wait "${pids[-1]}" || true
  unset 'pids[-1]'
}

# passes PACKAGE TEST: runs one test, which must not be skipped.
passes() {
  go test -count 1 -v -run "^$2\$" "$1" >"$work/test.log" 2>&1 || { cat "$work/test.log"; return 1; }
  grep -q "^--- PASS: $2" "$work/test.log" || { cat "$work/test.log"; fail "$2 was skipped"; }
  grep "^--- PASS: $2" "$work/test.log"
}
