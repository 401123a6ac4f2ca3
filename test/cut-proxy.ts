import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

export interface CutProxyOptions {
  /** The server's address. */
  readonly to: string;
  /** The request to cut, by the beginning of its head: method and path. */
  readonly request: RegExp;
  /** Which way the bytes go that are counted. */
  readonly towards: "client" | "server";
  /** How many pass, the head included, before the connection is cut. */
  readonly afterBytes: number;
  /** How many requests are cut; default 1. */
  readonly times?: number;
}

/** A TCP proxy that cuts the connections of some requests. */
export interface CutProxy extends AsyncDisposable {
  readonly url: string;
  /** How many connections it has cut. */
  readonly cuts: number;
  /** The heads of the requests of that kind, before and after. */
  readonly heads: readonly string[];
  /** Cuts no more. */
  letPass(): void;
}

export async function startCutProxy(options: CutProxyOptions): Promise<CutProxy> {
  const { towards, afterBytes, request } = options;
  const target = new URL(options.to);
  const open = new Set<Socket>();
  const heads: string[] = [];
  let left = options.times ?? 1;
  let cuts = 0;

  const server = createServer((client) => {
    const upstream = connect({ host: target.hostname, port: Number(target.port) });
    let leftBytes: number | undefined;
    let isCut = false;
    const cut = (): void => {
      if (isCut) return;
      isCut = true;
      cuts += 1;
      left -= 1;
      client.resetAndDestroy();
      upstream.resetAndDestroy();
    };
    const pass = (from: Socket, to: Socket, isCounted: boolean): void => {
      from.on("data", (chunk: Buffer) => {
        if (!isCounted || leftBytes === undefined) {
          if (!to.write(chunk)) from.pause();
          return;
        }
        const piece = chunk.subarray(0, leftBytes);
        leftBytes -= piece.length;
        to.write(piece, () => {
          if (leftBytes === 0) cut();
        });
      });
      to.on("drain", () => from.resume());
      from.on("end", () => to.end());
      from.on("close", () => to.destroy());
      // Broken connections are what this is for.
      from.on("error", () => {});
      open.add(from);
      from.on("close", () => open.delete(from));
    };
    // Nix sends no request before it has the answer to the last one, so each head begins a piece.
    client.on("data", (chunk: Buffer) => {
      const head = chunk.subarray(0, 4096).toString("latin1").split("\r\n\r\n", 1)[0] ?? "";
      if (!request.test(head)) return;
      heads.push(head);
      leftBytes = left > 0 ? afterBytes : undefined;
    });
    pass(client, upstream, towards === "server");
    pass(upstream, client, towards === "client");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The proxy has no port");
  return {
    url: `http://127.0.0.1:${address.port}`,
    get cuts() {
      return cuts;
    },
    heads,
    letPass() {
      left = 0;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of open) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}
