import { connect, type Socket } from "node:net";

import type { TestServer } from "./test-server.ts";

/** One connection on which a test says exactly what it wants, HTTP or not. */
export interface RawClient extends AsyncDisposable {
  readonly socket: Socket;
  /** Resolves when the bytes have left this process. */
  write(bytes: string | Uint8Array): Promise<void>;
  /** All that came so far, once it has `text` in it or the connection is closed. */
  until(text: string): Promise<string>;
  /** Resolves when the connection is closed, by either side, with all that came. */
  closed(): Promise<string>;
}

export async function openRawClient(server: Pick<TestServer, "url">): Promise<RawClient> {
  const { hostname, port } = new URL(server.url);
  const socket = connect({ host: hostname, port: Number(port) });
  let received = "";
  let changed = Promise.withResolvers<void>();
  const onChange = (): void => {
    changed.resolve();
    changed = Promise.withResolvers();
  };
  socket.setEncoding("latin1");
  socket.on("data", (piece: string) => {
    received += piece;
    onChange();
  });
  // A reset is one of the ways in which a server ends a connection; `closed` tells of all of them.
  socket.on("error", () => {});
  socket.on("close", onChange);
  await new Promise((resolve) => socket.once("connect", resolve));
  const wait = async (isEnough: () => boolean): Promise<string> => {
    while (!isEnough() && !socket.closed) await changed.promise;
    return received;
  };
  return {
    socket,
    write: (bytes) =>
      new Promise((resolve, reject) => {
        socket.write(bytes, (error) => {
          if (error === undefined || error === null) resolve();
          else reject(error);
        });
      }),
    until: (text) => wait(() => received.includes(text)),
    closed: () => wait(() => false),
    [Symbol.asyncDispose]() {
      socket.destroy();
      return Promise.resolve();
    },
  };
}

/** The lines of a request's head with the empty line behind them. */
export function head(...lines: readonly string[]): string {
  return `${lines.join("\r\n")}\r\n\r\n`;
}
