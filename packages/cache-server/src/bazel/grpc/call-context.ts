import { CacheError, type Logger } from "@glorious/core";
import type { ServerCall } from "@glorious/grpc";
import { readRequestMetadata } from "@glorious/reapi";
import type { CachePermission } from "@glorious/trust";

import type { Caller, TrustGate } from "../../trust/trust-gate.ts";
import type { InvocationFigures, Invocations } from "../invocations.ts";
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
  /** The figures of the run that a call belongs to; `undefined` for a tool that does not say. */
  invocationOf(call: ServerCall, access: InstanceAccess): InvocationFigures | undefined;
  /** Notes that a call, which `run` does not answer, has its answer. */
  answered(call: ServerCall): void;
}

export function createCallContext(options: {
  readonly gate: TrustGate;
  readonly instances: InstanceGate;
  readonly meters: CallMeters;
  readonly invocations: Invocations;
  readonly logger: Logger;
  /** Empty accepts every host. */
  readonly allowedHosts: readonly string[];
}): CallContext {
  const { gate, instances, meters, invocations, logger, allowedHosts } = options;
  const isAllowed = ({ authority }: ServerCall): boolean =>
    allowedHosts.length === 0 || allowedHosts.includes(authority);

  const identify = async ({ headers }: ServerCall): Promise<Caller> => {
    const authorization = headers.get("authorization");
    return gate.recall(authorization) ?? (await gate.identify(authorization));
  };

  return {
    recall(call, instance, permission) {
      if (!isAllowed(call)) return undefined;
      const { headers } = call;
      const caller = gate.recall(headers.get("authorization"));
      if (caller === undefined) return undefined;
      const agent = permission === "push" ? headers.get("user-agent") : undefined;
      const access = instances.recall(caller, instance, permission, agent);
      if (access !== undefined) meters.attribute(access.latency);
      return access;
    },
    async open(call, instance, permission) {
      if (!isAllowed(call)) {
        throw new CacheError("INVALID", "Bad Host", {
          hint: "Use one of the addresses in allowedHosts, port included.",
        });
      }
      const caller = await identify(call);
      const agent = call.headers.get("user-agent");
      const client = toolOf(call) ?? agent;
      const access = await instances.open(caller, { instance, permission, agent, client });
      meters.attributeLater(call, access.latency);
      return access;
    },
    run(call, answer) {
      // A call may be given up while what it asked for is under way.
      const letGo = call.holdMemory();
      answer()
        .catch((error: unknown) => {
          if (!(error instanceof CacheError) || error.code === "INTERNAL") {
            logger.error("A call failed", { path: call.path, error });
          }
          failCall(call, error);
        })
        .finally(() => {
          letGo();
          if (call.isOver) meters.end(call);
        });
    },
    invocationOf({ headers }, { view }) {
      const id = readRequestMetadata(headers)?.toolInvocationId;
      return id === undefined ? undefined : invocations.of(view.id, id);
    },
    answered: (call) => meters.end(call),
  };
}

/** The tool that calls, as it says itself. */
function toolOf({ headers }: ServerCall): string | undefined {
  const { toolName = "", toolVersion = "" } = readRequestMetadata(headers)?.toolDetails ?? {};
  return toolName === "" ? undefined : `${toolName} ${toolVersion}`.trimEnd();
}
