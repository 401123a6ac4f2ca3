import type { NetrcEntry } from "../user-files/netrc.ts";
import type { Probe } from "./probe.ts";

/** The netrc file of whoever asks. */
export interface NetrcFacts {
  readonly path: string | undefined;
  /** `undefined`: there is no such file. */
  readonly mode: number | undefined;
  readonly ownerId: number | undefined;
  /** In the order of the file. Passwords are secret. */
  readonly entries: Probe<readonly NetrcEntry[]>;
}
