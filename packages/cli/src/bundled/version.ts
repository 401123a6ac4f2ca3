/** Replaced by the text of the version when the bundle is made. */
declare const FLYWHEEL_VERSION: string;

/** The version of the command line in the bundle, which lies beside no manifest of its own. */
export function readVersion(): string {
  return FLYWHEEL_VERSION;
}
