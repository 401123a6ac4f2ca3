#!/bin/sh
# For pre_build_script of GitLab's runner: eval "$(pre-build.sh || :)"
# Prints what the job's shell is to export. The runner waits for as long as this runs.

start() {
  seconds=${FLYWHEEL_HOOK_SECONDS:-3}
  case $seconds in *[!0-9]* | 0*) seconds=3 ;; esac
  for command in flywheel timeout; do
    command -v "$command" >/dev/null && continue
    echo "flywheel: there is no $command in the job's PATH: the job goes on without the cache" >&2
    return 0
  done
  # Beyond it the agent goes on asking the server, and the job need not wait.
  export FLYWHEEL_SERVER_WAIT="${FLYWHEEL_SERVER_WAIT:-700ms}"
  timeout -k 1 $((seconds + 1)) flywheel setup --kind nix --kind bazel \
    --timeout "${seconds}s" --shell && return 0
  echo "flywheel: the set-up ended with $?: the job goes on without the cache" >&2
}

(start) || :
exit 0
