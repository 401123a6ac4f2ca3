#!/bin/sh
# ACTIONS_RUNNER_HOOK_JOB_COMPLETED of GitHub's and Gitea's runners: pushes what is left, and ends the session.
# The runner waits for as long as this runs, and fails the job when this fails.

finish() {
  seconds=${FLYWHEEL_DRAIN_SECONDS:-300}
  case $seconds in *[!0-9]* | 0*) seconds=300 ;; esac
  # The folder of jobs as well: a runner need not give to this hook what the other one exported.
  for session in "${FLYWHEEL_SESSION:-}" "${RUNNER_TEMP:-}"/flywheel-????????; do
    [ -f "$session/settings.json" ] || continue
    timeout -k 1 $((seconds + 10)) flywheel drain --end --session "$session" \
      --timeout "${seconds}s" || echo "flywheel: the drain ended with $?" >&2
  done
}

(finish) || :
exit 0
