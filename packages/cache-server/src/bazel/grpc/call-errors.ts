import { CacheError, type CacheErrorCode } from "@glorious/core";
import { GRPC_STATUS, type ServerCall } from "@glorious/grpc";
import type { RpcStatus } from "@glorious/reapi";

/** The gRPC status of each code, by what Bazel does on it: it repeats a call on the last four, and only those. */
const STATUS_OF: Readonly<Record<CacheErrorCode, number>> = {
  INVALID: GRPC_STATUS.INVALID_ARGUMENT,
  CORRUPT: GRPC_STATUS.INVALID_ARGUMENT,
  TRUNCATED: GRPC_STATUS.INVALID_ARGUMENT,
  TOO_LARGE: GRPC_STATUS.INVALID_ARGUMENT,
  UNSUPPORTED: GRPC_STATUS.INVALID_ARGUMENT,
  UNAUTHENTICATED: GRPC_STATUS.UNAUTHENTICATED,
  FORBIDDEN: GRPC_STATUS.PERMISSION_DENIED,
  NOT_FOUND: GRPC_STATUS.NOT_FOUND,
  METHOD_NOT_ALLOWED: GRPC_STATUS.UNIMPLEMENTED,
  CONFLICT: GRPC_STATUS.FAILED_PRECONDITION,
  RANGE: GRPC_STATUS.OUT_OF_RANGE,
  CANCELLED: GRPC_STATUS.CANCELLED,
  TIMEOUT: GRPC_STATUS.DEADLINE_EXCEEDED,
  RATE_LIMITED: GRPC_STATUS.RESOURCE_EXHAUSTED,
  STORAGE_FULL: GRPC_STATUS.RESOURCE_EXHAUSTED,
  UNAVAILABLE: GRPC_STATUS.UNAVAILABLE,
  CONFIG: GRPC_STATUS.INTERNAL,
  INTERNAL: GRPC_STATUS.INTERNAL,
};

/** An error as a status for the client; one that is not ours says nothing of itself. */
export function toRpcStatus(error: unknown): RpcStatus {
  if (!(error instanceof CacheError)) {
    return { code: GRPC_STATUS.INTERNAL, message: "The server failed to answer" };
  }
  const { code, message, hint } = error;
  return { code: STATUS_OF[code], message: hint === undefined ? message : `${message}. ${hint}` };
}

/** Ends a call with an error. */
export function failCall(call: ServerCall, error: unknown): void {
  const { code, message } = toRpcStatus(error);
  call.finish(code, message);
}
