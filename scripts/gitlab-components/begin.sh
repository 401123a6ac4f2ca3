# GloriousFlywheel sets the cache for @tool@ up. Whatever happens to it, the job goes on.
flywheel_directory="${CI_PROJECT_DIR:-$PWD}.tmp/flywheel-${CI_JOB_ID:-0}"
# Jobs share the folder around it: what one before left under this one's number could be programs.
if [ "${flywheel_made-}" != "$flywheel_directory" ]; then
  flywheel_made=
  (rm -rf "$flywheel_directory" && mkdir -p "${flywheel_directory%/*}" && mkdir -m 700 "$flywheel_directory") 2>/dev/null &&
    flywheel_made=$flywheel_directory
fi
flywheel_inputs() {
  cat <<'END-OF-INPUTS;'
@inputs@
END-OF-INPUTS;
}
# Brings the client of this component's version where the image has none: from the server, checked by its hash.
flywheel_bring() {
  flywheel_inputs | node -e '
@fetch@
' "$flywheel_directory" @sha256@ "$[[ inputs.fail-on-error ]]"
}
flywheel_begin() {
  if [ -z "$flywheel_made" ]; then
    echo "flywheel: $flywheel_directory cannot be made: the job goes on without the cache" >&2
    return 1
  fi
  if command -v flywheel >/dev/null 2>&1; then :
  elif command -v node >/dev/null 2>&1; then
    flywheel_bring || return
    PATH="$flywheel_directory/bin:$PATH"
  else
    echo "flywheel: there is neither flywheel nor Node in the job's PATH: the job goes on without the cache" >&2
    return 1
  fi
  # Beyond it the agent goes on asking the server, and the job need not wait, unless it wants to know.
  case "$[[ inputs.fail-on-error ]]" in
    true) flywheel_wait= ;;
    *) flywheel_wait="${FLYWHEEL_SERVER_WAIT:-700ms}" ;;
  esac
  flywheel_inputs | RUNNER_TEMP="$flywheel_directory" FLYWHEEL_SERVER_WAIT="$flywheel_wait" flywheel setup --kind @kind@ --inputs - --shell && return
  echo "flywheel: the set-up ended with $?: the job goes on without the cache" >&2
  return 1
}
eval "$(flywheel_begin || echo 'export FLYWHEEL_STATUS=degraded')"
if [ -n "$flywheel_made" ] && [ -x "$flywheel_directory/bin/flywheel" ]; then PATH="$flywheel_directory/bin:$PATH"; fi
case "$[[ inputs.fail-on-error ]]-${FLYWHEEL_STATUS-}" in
  true-degraded) echo "flywheel: fail-on-error is set, and the cache is degraded" >&2; exit 1 ;;
esac
