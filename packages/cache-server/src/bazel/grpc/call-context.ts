import { CacheError, type Logger } from "@glorious/core";
import type { ServerCall } from "@glorious/grpc";
import type { CachePermission } from "@glorious/trust";

import type { Caller, TrustGate } from "../../trust/trust-gate.ts";
import type { InstanceAccess, InstanceGate } from "../services/instance-access.ts";
import { failCall } from "./call-errors.ts";
import type { CallMeters } from "./call-meters.ts";

/** What the receivers of all services share. */
export interface CallContext {
  /** From memory: what the caller may do to the instance, when it has asked before. */
  recall(
    call: ServerCall,
    instance: string,
    permission: CachePermission,
  ): InstanceAccess | undefined;
  /** @throws {CacheError} as `InstanceGate.open` does. */
  open(call: ServerCall, instance: string, permission: CachePermission): Promise<InstanceAccess>;
  /** Runs what answers a call later; its error ends the call. */
  run(call: ServerCall, answer: () => Promise<void>): void;
  /** Notes that a call, which `run` does not answer, has its answer. */
  answered(call: ServerCall): void;
}

export function createCallContext(options: {
  readonly gate: TrustGate;
  readonly instances: InstanceGate;
  readonly meters: CallMeters;
  readonly logger: Logger;
}): CallContext {
  const { gate, instances, meters, logger } = options;

  const identify = async ({ headers }: ServerCall): Promise<Caller> => {
    const authorization = headers.get("authorization");
    return gate.recall(authorization) ?? (await gate.identify(authorization));
  };

  return {
    recall({ headers }, instance, permission) {
      const caller = gate.recall(headers.get("authorization"));
      return caller && instances.recall(caller, instance, permission);
    },
    async open(call, instance, permission) {
      return await instances.open(await identify(call), instance, permission);
    },
    run(call, answer) {
      answer()
        .catch((error: unknown) => {
          if (!(error instanceof CacheError) || error.code === "INTERNAL") {
            logger.error("A call failed", { path: call.path, error });
          }
          failCall(call, error);
        })
        .finally(() => {
          if (call.isOver) meters.end(call);
        });
    },
    answered: (call) => meters.end(call),
  };
}
