import { createHash } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  attachSocket,
  type CallReceiver,
  createServerConnection,
  GRPC_STATUS,
  type ServerCall,
} from "@glorious/grpc";
import {
  ActionCache,
  ActionResultSchema,
  type BlobDigest,
  ByteStream,
  Capabilities,
  describeCapabilities,
  encodeReadResponsePrefix,
  methodPath,
  ReadRequestSchema,
} from "@glorious/reapi";

/** What the cache does with a call when it is not well. */
export type Mistreatment = (call: ServerCall, messages: readonly Uint8Array[]) => void;

/** A cache with one ActionResult and its file, which can be made to misbehave. */
export interface ScriptedCache extends AsyncDisposable {
  readonly url: URL;
  readonly blob: Buffer;
  readonly digest: BlobDigest;
  readonly actionResult: Uint8Array;
  /** How many calls of each method came. */
  readonly calls: ReadonlyMap<string, number>;
  /** The token of the last call. */
  readonly authorization: string | undefined;
  /** From now on all calls are treated so; `undefined` makes it well again. */
  mistreat(how: Mistreatment | undefined): void;
  /** Cuts all connections. */
  cut(): void;
  /** Refuses connections, until the end. */
  stop(): Promise<void>;
}

const READ = methodPath(ByteStream, "read");
const GET_ACTION = methodPath(ActionCache, "getActionResult");
const GET_CAPABILITIES = methodPath(Capabilities, "getCapabilities");

export async function startScriptedCache(blob: Buffer): Promise<ScriptedCache> {
  const digest = {
    hash: createHash("sha256").update(blob).digest("hex"),
    sizeBytes: blob.length,
  };
  const actionResult = toBinary(
    ActionResultSchema,
    create(ActionResultSchema, {
      outputFiles: [
        {
          path: "out",
          digest: { hash: digest.hash, sizeBytes: BigInt(digest.sizeBytes) },
        },
      ],
    }),
  );
  const calls = new Map<string, number>();
  const sockets = new Set<Socket>();
  let mistreatment: Mistreatment | undefined;
  let authorization: string | undefined;

  const answer = (call: ServerCall, request: Uint8Array): void => {
    if (call.path === GET_CAPABILITIES) {
      call.respond(describeCapabilities({ mayUpdate: true, maxBlobBytes: 2 ** 30 }));
    } else if (call.path === GET_ACTION) call.respond(actionResult);
    else if (call.path === READ) {
      const { readOffset } = fromBinary(ReadRequestSchema, request);
      sendData(call, blob.subarray(Number(readOffset)));
      call.finish(GRPC_STATUS.OK);
    } else call.finish(GRPC_STATUS.NOT_FOUND, "not here");
  };
  const receiver: CallReceiver = {
    onMessage(call, message) {
      ((call.state ??= []) as Uint8Array[]).push(message);
    },
    onHalfClose(call) {
      calls.set(call.path, (calls.get(call.path) ?? 0) + 1);
      authorization = call.headers.get("authorization");
      const messages = (call.state ?? []) as Uint8Array[];
      if (mistreatment !== undefined) mistreatment(call, messages);
      else answer(call, messages[0] ?? new Uint8Array());
    },
  };
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    attachSocket(socket, (onOutput, nowMs) =>
      createServerConnection({ onOutput, onCall: () => receiver }, nowMs),
    );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const cut = (): void => {
    for (const socket of sockets) socket.resetAndDestroy();
  };
  const stop = async (): Promise<void> => {
    if (!server.listening) return;
    const closed = once(server, "close");
    server.close();
    cut();
    await closed;
  };
  return {
    url: new URL(`http://127.0.0.1:${port}`),
    blob,
    digest,
    actionResult,
    calls,
    get authorization() {
      return authorization;
    },
    mistreat(how) {
      mistreatment = how;
    },
    cut,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** Sends data as a read's answer, in one message. */
export function sendData(call: ServerCall, data: Uint8Array): void {
  call.sendMessage([encodeReadResponsePrefix(data.length), data]);
}
