import { type DescMessage, fromBinary, type MessageShape } from "@bufbuild/protobuf";
import { CacheError } from "@glorious/core";
import { type CallReceiver, type ServerCall, unary } from "@glorious/grpc";

import { failCall } from "./call-errors.ts";

/** A receiver for one request message; what the handler throws at once ends the call as an error. */
export function receiveOne(handle: (call: ServerCall, request: Uint8Array) => void): CallReceiver {
  return unary((call, request) => {
    try {
      handle(call, request);
    } catch (error) {
      failCall(call, error);
    }
  });
}

/** How an answer of many messages gets on. */
interface Streaming {
  readonly ending: AbortController;
  wake: (() => void) | undefined;
}

/** The same for answers of many messages. */
export function receiveOneAndStream(
  handle: (call: ServerCall, request: Uint8Array) => void,
): CallReceiver {
  const receiver = receiveOne((call, request) => {
    const state: Streaming = { ending: new AbortController(), wake: undefined };
    call.state = state;
    handle(call, request);
  });
  return {
    ...receiver,
    onDrain: (call) => streamingOf(call)?.wake?.(),
    onCancel(call) {
      const state = streamingOf(call);
      state?.ending.abort(new CacheError("CANCELLED", "The client gave the call up"));
      state?.wake?.();
    },
  };
}

/** Aborts when the client gives the call up. */
export function signalOf(call: ServerCall): AbortSignal | undefined {
  return streamingOf(call)?.ending.signal;
}

/** Resolves when the call takes more, or is over. */
export function drained(call: ServerCall): Promise<void> {
  const state = streamingOf(call);
  if (state === undefined || call.isOver) return Promise.resolve();
  return new Promise((resolve) => (state.wake = resolve));
}

function streamingOf(call: ServerCall): Streaming | undefined {
  const { state } = call;
  return typeof state === "object" && state !== null && "ending" in state
    ? (state as Streaming)
    : undefined;
}

/** Reads a message. @throws {CacheError} `INVALID` when it is malformed. */
export function decode<Schema extends DescMessage>(
  schema: Schema,
  message: Uint8Array,
): MessageShape<Schema> {
  try {
    return fromBinary(schema, message);
  } catch (cause) {
    throw new CacheError("INVALID", `The request is no ${schema.name}`, { cause });
  }
}
