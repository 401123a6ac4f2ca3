#!/bin/sh
# ACTIONS_RUNNER_HOOK_JOB_STARTED of GitHub's and Gitea's runners: sets the job's cache up before its first step.
# The runner waits for as long as this runs, and fails the job when this fails.

start() {
  seconds=${FLYWHEEL_HOOK_SECONDS:-3}
  case $seconds in *[!0-9]* | 0*) seconds=3 ;; esac
  for command in flywheel timeout; do
    command -v "$command" >/dev/null && continue
    echo "flywheel: there is no $command in the runner's PATH: the job goes on without the cache" >&2
    return 0
  done
  if [ -z "${GITHUB_ENV:-}" ]; then
    echo "flywheel: the runner names no GITHUB_ENV: the job goes on without the cache" >&2
    return 0
  fi
  # Beyond it the agent goes on asking the server, and the job need not wait.
  export FLYWHEEL_SERVER_WAIT="${FLYWHEEL_SERVER_WAIT:-700ms}"
  # The job's sources are not there yet. What lies in their place is of a job before: programs, and the choice of a Bazel.
  # So the settings are those that every Bazel knows, unless all jobs of this runner have the same.
  cd / || return 0
  timeout -k 1 $((seconds + 1)) flywheel setup --kind nix --kind bazel \
    --bazel-version "${FLYWHEEL_BAZEL_VERSION:-4}" --timeout "${seconds}s" --export-file "$GITHUB_ENV" --mask && return 0
  echo "flywheel: the set-up ended with $?: the job goes on without the cache" >&2
}

(start) || :
exit 0
