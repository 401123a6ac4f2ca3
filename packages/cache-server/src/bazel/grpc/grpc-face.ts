import type { Logger } from "@glorious/core";
import type { CallReceiver } from "@glorious/grpc";

import type { TrustGate } from "../../trust/trust-gate.ts";
import type { Invocations } from "../invocations.ts";
import type { SharedRequestMemory } from "../memory/request-memory.ts";
import type { InstanceGate } from "../services/instance-access.ts";
import { createUploadSessions } from "../services/upload-session.ts";
import { actionCacheCalls } from "./action-cache-calls.ts";
import { byteStreamCalls } from "./byte-stream-calls.ts";
import { createCallContext } from "./call-context.ts";
import type { CallMeters } from "./call-meters.ts";
import { casCalls } from "./cas-calls.ts";
import { capabilitiesCalls, fetchCalls, healthCalls } from "./other-calls.ts";

export interface GrpcFaceOptions {
  readonly gate: TrustGate;
  readonly instances: InstanceGate;
  readonly maxBlobBytes: number;
  readonly meters: CallMeters;
  /** For requests beyond the first window of each, and what is made of them until they are stored. */
  readonly memory: SharedRequestMemory;
  readonly invocations: Invocations;
  readonly logger: Logger;
  /** What `:authority` may be; empty accepts every host. */
  readonly allowedHosts: readonly string[];
}

/** How long a client whose connection broke in the middle of an upload may take to come back. */
const RESUME_MS = 120_000;
const MAX_DETACHED_UPLOADS = 64;

/** The Bazel cache as gRPC's clients see it. */
export interface GrpcFace {
  /** The receiver of every method there is, by its path. */
  readonly receivers: ReadonlyMap<string, CallReceiver>;
  /** What their requests take beyond the first window of each. */
  readonly memory: SharedRequestMemory;
  /** Gives up uploads whose clients might come back: the server stops. */
  stop(): void;
}

export function createGrpcFace(options: GrpcFaceOptions): GrpcFace {
  const { meters } = options;
  const context = createCallContext(options);
  const uploads = createUploadSessions({
    resumeMs: RESUME_MS,
    maxDetached: MAX_DETACHED_UPLOADS,
  });
  return {
    memory: options.memory,
    receivers: new Map(
      [
        ...capabilitiesCalls(context, options),
        ...actionCacheCalls(context),
        ...casCalls(context),
        ...byteStreamCalls(context, uploads),
        ...fetchCalls(context),
        ...healthCalls(),
      ].map(([path, receiver]) => [path, meters.measured(path, receiver)]),
    ),
    stop: () => uploads.abortAll(),
  };
}
