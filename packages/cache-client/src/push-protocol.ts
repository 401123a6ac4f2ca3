import type { PathFacts } from "./path-info.ts";
import { findMissingAttic, pushAttic } from "./push-attic.ts";
import { findMissingFlywheel, pushFlywheel } from "./push-flywheel.ts";
import type { PushOutcome, PushSession } from "./push-session.ts";
import type { AtticWire } from "./wire-attic.ts";
import type { FlywheelWire, MissingAnswer } from "./wire-flywheel.ts";

type Asking = Pick<PushSession, "retry" | "emit" | "signal"> & { readonly skipUpstream: boolean };

/** What differs between pushing to our server and to an atticd. */
export interface PushProtocol {
  findMissing(paths: readonly PathFacts[], asking: Asking): Promise<MissingAnswer>;
  push(
    kept: readonly PathFacts[],
    missing: MissingAnswer,
    session: PushSession,
  ): Promise<PushOutcome>;
}

/** Of our server. */
export class FlywheelProtocol implements PushProtocol {
  readonly #wire: FlywheelWire;

  constructor(wire: FlywheelWire) {
    this.#wire = wire;
  }

  findMissing(paths: readonly PathFacts[], asking: Asking): Promise<MissingAnswer> {
    return findMissingFlywheel(this.#wire, paths, asking);
  }

  push(
    kept: readonly PathFacts[],
    missing: MissingAnswer,
    session: PushSession,
  ): Promise<PushOutcome> {
    return pushFlywheel(this.#wire, kept, missing, session);
  }
}

/** Of an atticd. */
export class AtticProtocol implements PushProtocol {
  readonly #wire: AtticWire;

  constructor(wire: AtticWire) {
    this.#wire = wire;
  }

  /** An atticd does not tell about NARs: every missing path is sent, and may be a duplicate. */
  async findMissing(paths: readonly PathFacts[], asking: Asking): Promise<MissingAnswer> {
    const missingPaths = await findMissingAttic(this.#wire, paths, asking);
    const missing = paths.filter(({ storePath }) => missingPaths.has(storePath.hash));
    const missingNars = new Set(missing.map(({ narHash }) => narHash));
    return { missingPaths, missingNars, upstreamPaths: new Map() };
  }

  push(
    kept: readonly PathFacts[],
    { missingPaths }: MissingAnswer,
    session: PushSession,
  ): Promise<PushOutcome> {
    const missing = kept.filter(({ storePath }) => missingPaths.has(storePath.hash));
    return pushAttic(this.#wire, missing, session);
  }
}
