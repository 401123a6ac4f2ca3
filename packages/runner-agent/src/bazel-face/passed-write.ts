import { describeError } from "@glorious/core";
import {
  type CallEnd,
  type CallReceiver,
  type ClientCall,
  type ClientReceiver,
  GRPC_STATUS,
  type ServerCall,
} from "@glorious/grpc";

import { answerDropped } from "./degraded-answer.ts";
import type { FaceContext, WaitingCall } from "./face-context.ts";
import { judgeEnd } from "./judge-end.ts";
import { UploadHead } from "./upload-head.ts";

/** Takes uploads, and passes them to the cache as they come. */
export function passWrites(context: FaceContext): CallReceiver {
  const writeOf = (call: ServerCall): PassedWrite => {
    call.state ??= new PassedWrite(context, call);
    return call.state as PassedWrite;
  };
  return {
    manualConsume: true,
    onMessage() {
      throw new Error("an upload comes in bytes");
    },
    onBytes: (call, bytes) => writeOf(call).send(bytes),
    onHalfClose: (call) => writeOf(call).end(),
    onCancel: ({ state }) => (state as PassedWrite | undefined)?.cancel(),
  };
}

/** One upload. What went to the cache is not here any more, so it is Bazel that tries again. */
class PassedWrite implements WaitingCall {
  readonly #context: FaceContext;
  readonly #call: ServerCall;
  /** How the upload begins: which blob it is. */
  readonly #head: UploadHead = new UploadHead();
  #isDropped = false;
  #up: ClientCall | undefined;
  #answer: Uint8Array | undefined;
  #heldMessages = 0;
  #isEnded = false;
  #isCancelled = false;
  #progressMs = 0;

  constructor(context: FaceContext, call: ServerCall) {
    this.#context = context;
    this.#call = call;
  }

  get sinceMs(): number {
    return this.#isEnded || this.#heldMessages > 0 ? this.#progressMs : Infinity;
  }

  send(bytes: Uint8Array): void {
    this.#head.add(bytes);
    if (this.#isDropped) {
      this.#call.consumed();
      this.#drop();
      return;
    }
    const up = (this.#up ??= this.#start());
    if (up === undefined) return;
    this.#progressMs = performance.now();
    this.#context.statistics.bazel.up(bytes.length);
    if (up.sendBytes(bytes)) this.#call.consumed();
    else this.#heldMessages += 1;
  }

  end(): void {
    this.#isEnded = true;
    this.#progressMs = performance.now();
    this.#up?.halfClose();
    if (this.#up === undefined && !this.#call.isOver) this.#drop();
  }

  cancel(): void {
    this.#isCancelled = true;
    this.#up?.cancel();
  }

  giveUp(): void {
    this.#up?.cancel();
  }

  #start(): ClientCall | undefined {
    if (this.#call.isOver) return undefined;
    const { breaker, credentials, metadata, upstream, waiting } = this.#context;
    if (breaker.admit() === "reject") {
      this.#drop();
      return undefined;
    }
    const token = credentials.token();
    const up = upstream.startCall(
      { path: this.#call.path, metadata: metadata.of(this.#call.headers, token) },
      this.#receiver(),
    );
    if (up === undefined) {
      breaker.failed();
      this.#drop();
      return undefined;
    }
    up.state = token;
    waiting.add(this);
    return up;
  }

  #receiver(): ClientReceiver {
    return {
      onMessage: (_, message) => {
        this.#answer = message;
      },
      onDrain: () => {
        const held = this.#heldMessages;
        this.#heldMessages = 0;
        this.#progressMs = performance.now();
        this.#call.consumed(held);
      },
      onEnd: (up, end) => this.#onEnd(up, end),
    };
  }

  #onEnd(up: ClientCall, end: CallEnd): void {
    const { breaker, credentials, statistics, waiting } = this.#context;
    waiting.delete(this);
    if (this.#isCancelled || this.#call.isOver) {
      return;
    }
    switch (judgeEnd("write", end)) {
      case "pass":
        breaker.succeeded();
        if (end.status !== GRPC_STATUS.OK) this.#call.finish(end.status, end.message);
        else if (this.#answer === undefined) {
          this.#call.finish(GRPC_STATUS.INTERNAL, "the cache answered without a message");
        } else this.#call.respond(this.#answer);
        break;
      case "refused":
        breaker.succeeded();
        this.#call.finish(GRPC_STATUS.PERMISSION_DENIED, end.message);
        break;
      case "repeat":
        this.#call.finish(GRPC_STATUS.UNAVAILABLE, end.message);
        break;
      case "renew":
        void credentials.refused(up.state as string | undefined).then((isRenewed) => {
          if (isRenewed) {
            breaker.succeeded();
            this.#call.finish(GRPC_STATUS.UNAVAILABLE, "the credential was renewed: try again");
          } else {
            breaker.failed();
            this.#drop();
          }
        });
        break;
      case "trouble":
        breaker.failed();
        statistics.warn(`The cache had trouble: ${end.message || `status ${end.status}`}.`);
        // Bazel goes on where it was while the cache may still be asked.
        if (breaker.state === "open") this.#drop();
        else this.#call.finish(GRPC_STATUS.UNAVAILABLE, end.message);
        break;
    }
  }

  /** The build need not know: there is nothing it could do about it. */
  #drop(): void {
    this.#isDropped = true;
    const { resourceName } = this.#head;
    // Its name is still to come.
    if (resourceName === undefined && !this.#isEnded) return;
    try {
      this.#call.respond(answerDropped(resourceName ?? ""));
      this.#context.statistics.bazel.degradedAnswer();
    } catch (error) {
      this.#call.finish(GRPC_STATUS.INVALID_ARGUMENT, describeError(error));
    }
  }
}
