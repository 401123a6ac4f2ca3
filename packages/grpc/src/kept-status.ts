import type { FieldList } from "./hpack/encoder.ts";
import { formatStatusMessage } from "./status.ts";

/** The fields that every response begins with. */
export const RESPONSE_HEAD: FieldList = [
  [":status", "200"],
  ["content-type", "application/grpc"],
];

/** A status that ends many calls, made by {@link keepStatus}. */
export interface KeptStatus {
  readonly status: number;
  /** As the whole answer, and after a head that was sent. */
  readonly answer: FieldList;
  readonly trailers: FieldList;
}

/**
 * A status and its message for `ServerCall.finishWith`. Every connection keeps their encoding, so there may be
 * a fixed number of them only: constants of the program.
 */
export function keepStatus(status: number, message = ""): KeptStatus {
  const trailers: Array<readonly [string, string]> = [["grpc-status", String(status)]];
  if (message !== "") trailers.push(["grpc-message", formatStatusMessage(message)]);
  return { status, answer: [...RESPONSE_HEAD, ...trailers], trailers };
}
