import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { describeError } from "@glorious/core";
import {
  type CallEnd,
  type CallReceiver,
  type ClientCall,
  type ClientReceiver,
  GRPC_STATUS,
  type ServerCall,
  unary,
} from "@glorious/grpc";
import {
  DigestList,
  encodeReadResponsePrefix,
  parseGetActionResultRequest,
  parseReadRequest,
  parseReadResourceName,
  ReadRequestSchema,
  ReadResponseSchema,
} from "@glorious/reapi";

import { answerDegraded } from "./degraded-answer.ts";
import type { FaceContext, WaitingCall } from "./face-context.ts";
import { judgeEnd } from "./judge-end.ts";
import { isStreamed, isWrite, type MethodKind } from "./methods.ts";
import { ReadProgress } from "./read-progress.ts";
import { sendKeptBlob } from "./send-kept-blob.ts";

/** How long the cache may take for an answer in one message; one with much content may take longer. */
const SHORT_ANSWER_MS = 8000;
const LONG_ANSWER_MS = 30_000;
const LONG_ANSWERS: ReadonlySet<MethodKind> = new Set<MethodKind>([
  "batch-update",
  "batch-read",
  "splice",
  "split",
]);
/** How often a call goes to the cache, all in all. */
const MAX_ATTEMPTS = 3;

/** Takes the calls of a method whose request is one message, and passes them to the cache. */
export function passCalls(kind: MethodKind, context: FaceContext): CallReceiver {
  return {
    ...unary((call, request) => {
      const passed = new PassedCall(kind, context, call, request);
      call.state = passed;
      passed.attempt();
    }),
    onCancel({ state }) {
      if (state instanceof PassedCall) state.cancel();
    },
    onDrain({ state }) {
      if (state instanceof PassedCall) state.goOn();
    },
  };
}

/** One call of Bazel's, and the call to the cache that stands behind it. */
class PassedCall implements WaitingCall {
  readonly #kind: MethodKind;
  readonly #context: FaceContext;
  readonly #call: ServerCall;
  readonly #request: Uint8Array;
  readonly #progress: ReadProgress = new ReadProgress();
  #up: ClientCall | undefined;
  #answer: Uint8Array | undefined;
  #attempts = 0;
  #isCancelled = false;
  /** What the cache may not replace by more yet, because Bazel has not taken it. */
  #heldMessages = 0;
  #progressMs = 0;
  /** What a kept blob waits with for Bazel. */
  #onDrain: (() => void) | undefined;

  constructor(kind: MethodKind, context: FaceContext, call: ServerCall, request: Uint8Array) {
    this.#kind = kind;
    this.#context = context;
    this.#call = call;
    this.#request = request;
  }

  get sinceMs(): number {
    return this.#heldMessages > 0 ? Infinity : this.#progressMs;
  }

  attempt(): void {
    const { breaker, credentials, metadata, upstream, waiting } = this.#context;
    if (this.#attempts >= MAX_ATTEMPTS || breaker.admit() === "reject") {
      this.#answerDegraded();
      return;
    }
    this.#attempts += 1;
    this.#answer = undefined;
    const token = credentials.token();
    const request = this.#hasBegun ? this.#requestOfTheRest() : this.#request;
    const up = upstream.startCall(
      {
        path: this.#call.path,
        metadata: metadata.of(this.#call.headers, token),
        ...(isStreamed(this.#kind) ? {} : { timeoutMs: answerMs(this.#kind) }),
      },
      this.#receiver(),
    );
    if (up === undefined) {
      breaker.failed();
      this.#answerDegraded();
      return;
    }
    this.#up = up;
    up.state = token;
    this.#progressMs = performance.now();
    if (isStreamed(this.#kind)) waiting.add(this);
    up.sendMessage(request);
    up.halfClose();
  }

  cancel(): void {
    this.#isCancelled = true;
    this.#onDrain?.();
    this.#up?.cancel();
  }

  giveUp(): void {
    this.#up?.cancel();
  }

  goOn(): void {
    this.#onDrain?.();
    if (this.#heldMessages === 0) return;
    this.#progressMs = performance.now();
    const held = this.#heldMessages;
    this.#heldMessages = 0;
    this.#up?.consumed(held);
  }

  get #hasBegun(): boolean {
    return this.#progress.dataBytes > 0 || !this.#progress.isResumable;
  }

  #receiver(): ClientReceiver {
    const onEnd = (_: ClientCall, end: CallEnd): void => this.#onEnd(end);
    if (!isStreamed(this.#kind)) {
      return {
        onMessage: (_, message) => {
          this.#answer = message;
        },
        onEnd,
      };
    }
    const isRest = this.#hasBegun;
    return {
      manualConsume: true,
      onMessage: (up, message) => this.#sendRest(up, message),
      // What comes for the first time passes as it is.
      ...(isRest ? {} : { onBytes: (up, bytes) => this.#sendBytes(up, bytes) }),
      onEnd,
    };
  }

  #sendBytes(up: ClientCall, bytes: Uint8Array): void {
    if (this.#kind === "read") this.#progress.add(bytes);
    this.#take(up, bytes.length, this.#call.sendBytes(bytes));
  }

  /** Ends the message that was broken off, then goes on with whole ones. */
  #sendRest(up: ClientCall, message: Uint8Array): void {
    const { data } = fromBinary(ReadResponseSchema, message);
    const open = data.subarray(0, this.#progress.missingBytes);
    const rest = data.subarray(open.length);
    this.#progress.add(open);
    let isWelcome = open.length === 0 || this.#call.sendBytes(open);
    if (rest.length > 0) {
      isWelcome = this.#call.sendMessage([encodeReadResponsePrefix(rest.length), rest]);
      this.#progress.dataBytes += rest.length;
    }
    this.#take(up, data.length, isWelcome);
  }

  #take(up: ClientCall, sizeBytes: number, isWelcome: boolean): void {
    this.#progressMs = performance.now();
    this.#context.statistics.bazel.down(sizeBytes);
    if (isWelcome) up.consumed();
    else this.#heldMessages += 1;
  }

  #onEnd(end: CallEnd): void {
    const { breaker, statistics, waiting } = this.#context;
    waiting.delete(this);
    const up = this.#up;
    this.#up = undefined;
    if (this.#isCancelled || this.#call.isOver) {
      // Bazel gave it up, which says nothing about the cache.
      return;
    }
    switch (judgeEnd(this.#kind, end)) {
      case "pass":
        breaker.succeeded();
        this.#pass(end);
        break;
      case "refused":
        breaker.succeeded();
        if (isWrite(this.#kind)) this.#call.finish(GRPC_STATUS.PERMISSION_DENIED, end.message);
        else this.#answerDegraded();
        break;
      case "renew":
        this.#renew(up?.state as string | undefined, end);
        break;
      case "repeat":
        this.attempt();
        break;
      case "trouble":
        breaker.failed();
        statistics.warn(`The cache had trouble: ${end.message || `status ${end.status}`}.`);
        this.#afterTrouble(end);
        break;
    }
  }

  /** What was half delivered is gone on with; the rest is answered in the cache's place. */
  #afterTrouble(end: CallEnd): void {
    if (!this.#hasBegun) this.#answerDegraded();
    else if (this.#isGoneOnWith) this.attempt();
    // Bazel knows how much of the blob it has; it asks for the rest.
    else this.#call.finish(GRPC_STATUS.UNAVAILABLE, end.message);
  }

  #renew(token: string | undefined, end: CallEnd): void {
    const { breaker, credentials } = this.#context;
    void credentials.refused(token).then((isRenewed) => {
      if (this.#call.isOver) {
      } else if (isRenewed && this.#attempts < MAX_ATTEMPTS) {
        breaker.succeeded();
        this.attempt();
      } else {
        breaker.failed();
        this.#context.statistics.warn(`The cache refuses the credential: ${end.message}.`);
        this.#answerDegraded();
      }
    });
  }

  #pass({ status, message }: CallEnd): void {
    const { statistics } = this.#context;
    const call = this.#call;
    const isOk = status === GRPC_STATUS.OK;
    if (this.#kind === "get-action" && (isOk || status === GRPC_STATUS.NOT_FOUND)) {
      if (isOk) statistics.bazel.actionHit();
      else statistics.bazel.actionMiss();
    }
    if (isStreamed(this.#kind)) {
      if (status === GRPC_STATUS.NOT_FOUND) this.#answerDegraded();
      else call.finish(status, message);
      if (isOk && this.#kind === "read") this.#noteDelivered();
    } else if (isOk && this.#answer !== undefined) {
      call.respond(this.#answer);
      statistics.bazel.down(this.#answer.length);
      statistics.bazel.up(isWrite(this.#kind) ? this.#request.length : 0);
      this.#learn(this.#answer);
    } else if (isOk) {
      call.finish(GRPC_STATUS.INTERNAL, "the cache answered without a message");
    } else {
      call.finish(status, message);
    }
  }

  /** What an answer tells about calls that are to come. */
  #learn(answer: Uint8Array): void {
    const { kept } = this.#context;
    if (this.#kind === "capabilities") this.#context.capabilities = Buffer.from(answer);
    if (this.#kind !== "get-action" || kept === undefined) return;
    const { instanceName } = parseGetActionResultRequest(this.#request, new DigestList());
    kept.promise(answer, instanceName);
  }

  #noteDelivered(): void {
    const { kept } = this.#context;
    if (kept === undefined) return;
    const { resourceName, readOffset, readLimit } = parseReadRequest(this.#request);
    if (readOffset !== 0 || readLimit !== 0) return;
    const digests = new DigestList();
    parseReadResourceName(resourceName, digests);
    kept.deliver(digests.hash(0));
  }

  #answerDegraded(): void {
    const { statistics, kept, capabilities } = this.#context;
    const call = this.#call;
    statistics.bazel.degradedAnswer();
    if (this.#kind === "get-action") statistics.bazel.actionMiss();
    if (this.#kind === "update-action") statistics.bazel.droppedResult();
    try {
      const answer = answerDegraded(
        {
          kind: this.#kind,
          headers: call.headers,
          request: this.#request,
          deliveredBytes: this.#progress.dataBytes,
        },
        { kept, capabilities },
      );
      if (answer.kind === "message") call.respond(answer.message);
      else if (answer.kind === "status") call.finish(answer.status, answer.message);
      else {
        sendKeptBlob(call, { ...answer, openBytes: this.#progress.missingBytes }, (onDrain) => {
          this.#onDrain = onDrain;
        });
      }
    } catch (error) {
      call.finish(GRPC_STATUS.INVALID_ARGUMENT, describeError(error));
    }
  }

  /** Whether another answer can go on where the first one stopped. */
  get #isGoneOnWith(): boolean {
    if (this.#kind !== "read" || !this.#progress.isResumable) return false;
    const { resourceName } = parseReadRequest(this.#request);
    return parseReadResourceName(resourceName, new DigestList()).compressor === "identity";
  }

  /** The same read, from where it was broken off. */
  #requestOfTheRest(): Uint8Array {
    const { resourceName, readOffset, readLimit } = parseReadRequest(this.#request);
    const request = create(ReadRequestSchema, {
      resourceName,
      readOffset: BigInt(readOffset + this.#progress.dataBytes),
      readLimit: BigInt(readLimit === 0 ? 0 : readLimit - this.#progress.dataBytes),
    });
    return toBinary(ReadRequestSchema, request);
  }
}

function answerMs(kind: MethodKind): number {
  return LONG_ANSWERS.has(kind) ? LONG_ANSWER_MS : SHORT_ANSWER_MS;
}
