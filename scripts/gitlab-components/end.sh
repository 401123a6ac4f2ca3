# GloriousFlywheel pushes what is left, and ends what it began.
flywheel_directory="${CI_PROJECT_DIR:-/tmp/flywheel}.tmp/flywheel-${CI_JOB_ID:-0}"
for flywheel_session in "$flywheel_directory"/flywheel-????????; do
  [ -f "$flywheel_session/settings.json" ] || continue
  PATH="$flywheel_directory/bin:$PATH" flywheel drain --end --session "$flywheel_session" || :
done
rm -rf "$flywheel_directory" || :
