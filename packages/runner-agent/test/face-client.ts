import { connect } from "node:net";

import { attachSocket, createClientConnection, GRPC_STATUS } from "@glorious/grpc";

/** What a call came to. */
export interface FaceAnswer {
  readonly status: number;
  readonly messages: readonly Buffer[];
}

/** Bazel's side of the face. */
export interface FaceClient extends Disposable {
  call(path: string, ...messages: readonly Uint8Array[]): Promise<FaceAnswer>;
}

/** @param address `grpc://127.0.0.1:<port>` */
export function openFaceClient(address: string, secret: string): FaceClient {
  const socket = connect(Number(new URL(address).port), "127.0.0.1");
  const connection = attachSocket(socket, (onOutput, nowMs) =>
    createClientConnection({ onOutput }, nowMs),
  );
  return {
    call: (path, ...messages) =>
      new Promise((resolve) => {
        const received: Buffer[] = [];
        const call = connection.startCall(
          {
            path,
            authority: "face",
            metadata: [["authorization", `Bearer ${secret}`]],
            timeoutMs: 30_000,
          },
          {
            onMessage: (_, message) => void received.push(Buffer.from(message)),
            onEnd: (_, { status }) => resolve({ status, messages: received }),
          },
          performance.now(),
        );
        for (const message of messages) call?.sendMessage(message);
        call?.halfClose();
      }),
    [Symbol.dispose]: () => socket.destroy(),
  };
}

/** The name of a status. */
export function statusName(status: number): string {
  const entry = Object.entries(GRPC_STATUS).find(([, code]) => code === status);
  return entry?.[0] ?? String(status);
}
