#!/bin/sh
# For post_build_script of GitLab's runner: post-build.sh || :
# Pushes what is left, and ends the session. The runner does not run it for a job that failed.

finish() {
  seconds=${FLYWHEEL_DRAIN_SECONDS:-300}
  case $seconds in *[!0-9]* | 0*) seconds=300 ;; esac
  # A job that has no session said why when it began.
  [ -n "${FLYWHEEL_SESSION:-}" ] && command -v flywheel >/dev/null || return 0
  timeout -k 1 $((seconds + 10)) flywheel drain --end --timeout "${seconds}s" && return 0
  echo "flywheel: the drain ended with $?" >&2
}

(finish) || :
exit 0
