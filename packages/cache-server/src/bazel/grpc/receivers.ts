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

/** How an answer of many messages gets on. Most turn out to be of one, and need none of it. */
class Streaming {
  readonly #ending: AbortController = new AbortController();
  wake: (() => void) | undefined;

  get signal(): AbortSignal {
    return this.#ending.signal;
  }

  cancel(): void {
    this.#ending.abort(new CacheError("CANCELLED", "The client gave the call up"));
    this.wake?.();
  }
}

/** The same for answers of many messages. */
export function receiveOneAndStream(
  handle: (call: ServerCall, request: Uint8Array) => void,
): CallReceiver {
  return {
    ...receiveOne(handle),
    onDrain(call) {
      if (call.state instanceof Streaming) call.state.wake?.();
    },
    onCancel(call) {
      if (call.state instanceof Streaming) call.state.cancel();
    },
  };
}

/** Aborts when the client gives up a call that is answered by {@link receiveOneAndStream}. */
export function signalOf(call: ServerCall): AbortSignal {
  return streamingOf(call).signal;
}

/** Resolves when the call takes more, or is over. */
export function drained(call: ServerCall): Promise<void> {
  if (call.isOver) return Promise.resolve();
  const streaming = streamingOf(call);
  return new Promise((resolve) => (streaming.wake = resolve));
}

function streamingOf(call: ServerCall): Streaming {
  if (call.state instanceof Streaming) return call.state;
  const streaming = new Streaming();
  call.state = streaming;
  return streaming;
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
