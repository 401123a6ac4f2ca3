# GloriousFlywheel pushes what is left, and ends what it began.
flywheel_directory="${CI_PROJECT_DIR:-$PWD}.tmp/flywheel-${CI_JOB_ID:-0}"
# Jobs share the folder around it: what this one's user did not make is not this one's.
if [ -O "$flywheel_directory" ] && [ ! -L "$flywheel_directory" ]; then
  for flywheel_session in "$flywheel_directory"/flywheel-????????; do
    [ -f "$flywheel_session/settings.json" ] || continue
    PATH="$flywheel_directory/bin:$PATH" flywheel drain --end --session "$flywheel_session" || :
  done
  rm -rf "$flywheel_directory" || :
fi
