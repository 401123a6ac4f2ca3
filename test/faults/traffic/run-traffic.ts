import { setTimeout as sleep } from "node:timers/promises";

import type { PathInfo } from "@glorious/cache-client";

import type { Random } from "../../random.ts";
import type { History } from "../history/history.ts";
import {
  type ClientOptions,
  createView,
  deletePath,
  pushAttic,
  pushClosure,
  revokeToken,
  type Target,
} from "./clients.ts";
import type { ClosureFactory } from "./closures.ts";

export interface TrafficOptions extends ClientOptions {
  readonly random: Random;
  readonly closures: ClosureFactory;
  readonly history: History;
  /** Asked before every step. */
  readonly target: () => Target;
  /** Clients at the same time. */
  readonly clients: number;
  /** Steps of each client; most of them are pushes. */
  readonly steps: number;
  /** Names views that a client makes; must not give one twice. */
  readonly viewName?: () => string;
  /** Asked after a failed step: false ends that client. By default it goes on. */
  readonly goesOn?: (error: unknown) => boolean;
}

export interface TrafficResult {
  readonly pushes: number;
  readonly errors: readonly unknown[];
}

/** Several clients that push, delete and revoke at the same time. Failed steps are collected, not thrown. */
export async function runTraffic(options: TrafficOptions): Promise<TrafficResult> {
  const errors: unknown[] = [];
  let pushes = 0;
  const run = async (client: number): Promise<void> => {
    const random = options.random.fork(`client ${client}`);
    const deletable: PathInfo[] = [];
    for (let step = 0; step < options.steps; step += 1) {
      if (options.signal?.aborted === true) return;
      try {
        await takeStep(random, deletable);
      } catch (error) {
        errors.push(error);
        if (options.goesOn?.(error) === false) return;
        await sleep(random.below(20));
      }
    }
  };

  const takeStep = async (random: Random, deletable: PathInfo[]): Promise<void> => {
    const { closures, history, target } = options;
    const dice = random.next();
    if (dice < 0.05) return revokeToken(target(), history, options);
    if (dice < 0.08 && options.viewName !== undefined) {
      return createView(target(), options.viewName(), history, options);
    }
    const doomed = dice < 0.2 ? deletable.pop() : undefined;
    if (doomed !== undefined) {
      await deletePath(target(), doomed, history, options);
      if (random.chance(0.5)) {
        pushes += 1;
        await pushClosure(target(), [doomed], history, options);
      }
      return;
    }
    const closure = await closures.createClosure();
    pushes += 1;
    if (dice < 0.4) await pushAttic(target(), closure, history, options);
    else await pushClosure(target(), closure, history, options);
    // The last one: no other refers to it.
    const last = closure.at(-1);
    if (last !== undefined) deletable.push(last);
  };

  await Promise.all(Array.from({ length: options.clients }, (_, client) => run(client)));
  return { pushes, errors };
}
