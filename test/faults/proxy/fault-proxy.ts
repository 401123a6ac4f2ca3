import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** What happens to one connection. Byte counts are of what passed in that direction. */
export interface ConnectionFault {
  /** Every piece takes so much longer. */
  readonly latencyMs?: number;
  /** No more than so many bytes in a second, in each direction. */
  readonly bytesPerSecond?: number;
  /** After so many bytes towards this side the fault happens; nothing without it. */
  readonly after?: {
    readonly bytes: number;
    readonly towards: "server" | "client";
    /**
     * `reset`: both sides get a TCP reset. `truncate`: both sides get an orderly end. `black-hole`: nothing passes
     * any more and nobody is told.
     */
    readonly kind: "reset" | "truncate" | "black-hole";
  };
}

/** A TCP proxy that mistreats connections as planned. Disposing of it cuts all of them. */
export interface FaultProxy extends AsyncDisposable {
  readonly port: number;
  /** How many connections met each fault. */
  readonly faults: ReadonlyMap<string, number>;
}

/** @param plan Asked for each connection what becomes of it; `number` counts from 0. */
export async function startFaultProxy(
  upstreamPort: () => number,
  plan: (number: number) => ConnectionFault,
): Promise<FaultProxy> {
  const open = new Set<Socket>();
  const faults = new Map<string, number>();
  let connections = 0;
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const fault = plan(connections);
    connections += 1;
    const upstream = connect({ port: upstreamPort(), host: "127.0.0.1", allowHalfOpen: true });
    for (const socket of [client, upstream]) {
      open.add(socket);
      socket.setNoDelay(true);
      // A broken connection is what this is for.
      socket.on("error", () => {});
      socket.on("close", () => open.delete(socket));
    }
    const connection = new Connection(client, upstream, fault, (name) => {
      faults.set(name, (faults.get(name) ?? 0) + 1);
    });
    connection.start();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The proxy has no port");
  return {
    port: address.port,
    faults,
    async [Symbol.asyncDispose]() {
      for (const socket of open) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

class Connection {
  readonly #client: Socket;
  readonly #upstream: Socket;
  readonly #fault: ConnectionFault;
  readonly #onFault: (name: string) => void;
  #isSilent = false;

  constructor(
    client: Socket,
    upstream: Socket,
    fault: ConnectionFault,
    onFault: (name: string) => void,
  ) {
    this.#client = client;
    this.#upstream = upstream;
    this.#fault = fault;
    this.#onFault = onFault;
  }

  start(): void {
    const [client, upstream] = [this.#client, this.#upstream];
    // In a black hole neither side learns of the other's end.
    client.on("close", () => this.#isSilent || upstream.destroy());
    upstream.on("close", () => this.#isSilent || client.destroy());
    void this.#pass(client, upstream, "server");
    void this.#pass(upstream, client, "client");
  }

  /** Passes bytes on, slowly where planned, until the fault strikes. */
  async #pass(from: Socket, to: Socket, towards: "server" | "client"): Promise<void> {
    const { latencyMs = 0, bytesPerSecond, after } = this.#fault;
    let left = after?.towards === towards ? after.bytes : Number.POSITIVE_INFINITY;
    try {
      for await (const chunk of from.iterator({ destroyOnReturn: false })) {
        const piece = (chunk as Buffer).subarray(0, left);
        if (latencyMs > 0) await sleep(latencyMs);
        if (bytesPerSecond !== undefined) await sleep((piece.length / bytesPerSecond) * 1000);
        if (this.#isSilent) continue;
        if (!to.destroyed && !to.write(piece)) {
          await Promise.race([once(to, "drain"), once(to, "close")]);
        }
        left -= piece.length;
        if (left <= 0) return this.#strike();
      }
      if (!to.destroyed && !this.#isSilent) to.end();
    } catch {
      // A socket that breaks ends its own direction.
    }
  }

  #strike(): void {
    const kind = this.#fault.after?.kind ?? "reset";
    this.#onFault(kind);
    if (kind === "black-hole") {
      this.#isSilent = true;
      return;
    }
    for (const socket of [this.#client, this.#upstream]) {
      if (kind === "reset") socket.resetAndDestroy();
      else socket.end();
    }
  }
}
