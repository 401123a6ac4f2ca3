import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/**
 * What happens to one connection; nothing special without any of it. Byte counts are of what passed in that
 * direction.
 */
export interface ConnectionFault {
  /**
   * Every byte arrives so much later, in each direction, as over a longer cable: a round trip takes twice that longer,
   * and what is sent meanwhile is under way at the same time. A new connection's first bytes wait for a round trip
   * more, as for TCP's handshake.
   */
  readonly latencyMs?: number;
  /** No more than so many bytes in a second, in each direction. */
  readonly bytesPerSecond?: number;
  /** After so many bytes towards this side, 0 for at once, the fault happens; nothing without it. */
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

/**
 * A TCP proxy that mistreats connections as planned. Disposing of it cuts all of them.
 *
 * A server that dies: `refuse()`, and `accept()` when it is back on its port. One that never answers: a plan with
 * `after: { bytes: 0, towards: "server", kind: "black-hole" }`. A plan may change what it answers while a test runs.
 */
export interface FaultProxy extends AsyncDisposable {
  readonly port: number;
  /** How many connections met each fault. */
  readonly faults: ReadonlyMap<string, number>;
  /** How many connections were accepted. */
  readonly connections: number;
  /** Resets the open connections, and has new ones refused. */
  refuse(): Promise<void>;
  /** Takes connections again, on the same port. */
  accept(): Promise<void>;
}

/** What all connections of a proxy share. */
export interface SharedLink {
  /** No more than so many bytes in a second, in each direction. */
  readonly bytesPerSecond: number;
}

/** @param plan Asked for each connection what becomes of it; `number` counts from 0. */
export async function startFaultProxy(
  upstreamPort: () => number,
  plan: (number: number) => ConnectionFault,
  shared?: SharedLink,
): Promise<FaultProxy> {
  const link = shared && new Link(shared);
  const open = new Set<Socket>();
  const faults = new Map<string, number>();
  let connections = 0;
  const onClient = (client: Socket): void => {
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
    const onFault = (name: string): void => {
      faults.set(name, (faults.get(name) ?? 0) + 1);
    };
    const connection = new Connection({ client, upstream, fault, link, onFault });
    connection.start();
  };
  let server: Server | undefined = await listen(0, onClient);
  const { port } = server.address() as { port: number };
  const refuse = async (): Promise<void> => {
    const stopping = server;
    server = undefined;
    if (stopping === undefined) return;
    stopping.close();
    for (const socket of open) socket.resetAndDestroy();
    await once(stopping, "close");
  };
  return {
    port,
    faults,
    get connections() {
      return connections;
    },
    refuse,
    async accept() {
      server ??= await listen(port, onClient);
    },
    [Symbol.asyncDispose]: refuse,
  };
}

async function listen(port: number, onClient: (client: Socket) => void): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, onClient);
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return server;
}

/** Read but not passed on yet; beyond it the sender is held up, as by a full pipe. */
const MAX_UNDERWAY_BYTES = 16 * 2 ** 20;

/** Bytes of all connections go over it one after the other. */
class Link {
  readonly #bytesPerSecond: number;
  readonly #freeAtMs = { server: 0, client: 0 };

  constructor({ bytesPerSecond }: SharedLink) {
    this.#bytesPerSecond = bytesPerSecond;
  }

  async pass(bytes: number, towards: "server" | "client"): Promise<void> {
    const nowMs = performance.now();
    const freeAtMs =
      Math.max(nowMs, this.#freeAtMs[towards]) + (bytes / this.#bytesPerSecond) * 1000;
    this.#freeAtMs[towards] = freeAtMs;
    // Timers know whole milliseconds only.
    if (freeAtMs - nowMs >= 1) await sleep(freeAtMs - nowMs);
  }
}

interface Piece {
  readonly bytes: Buffer;
  readonly arrivesAtMs: number;
}

class Connection {
  readonly #client: Socket;
  readonly #upstream: Socket;
  readonly #fault: ConnectionFault;
  readonly #link: Link | undefined;
  readonly #onFault: (name: string) => void;
  readonly #openedAtMs = performance.now();
  #isSilent = false;

  constructor(options: {
    readonly client: Socket;
    readonly upstream: Socket;
    readonly fault: ConnectionFault;
    readonly link: Link | undefined;
    readonly onFault: (name: string) => void;
  }) {
    this.#client = options.client;
    this.#upstream = options.upstream;
    this.#fault = options.fault;
    this.#link = options.link;
    this.#onFault = options.onFault;
  }

  start(): void {
    const [client, upstream] = [this.#client, this.#upstream];
    // In a black hole neither side learns of the other's end.
    client.on("close", () => this.#isSilent || upstream.destroy());
    upstream.on("close", () => this.#isSilent || client.destroy());
    if (this.#fault.after?.bytes === 0) this.#strike();
    void this.#pass(client, upstream, "server");
    void this.#pass(upstream, client, "client");
  }

  /** Passes bytes on, late and slowly where planned, until the fault strikes. */
  async #pass(from: Socket, to: Socket, towards: "server" | "client"): Promise<void> {
    const { bytesPerSecond, after } = this.#fault;
    let left = after?.towards === towards ? after.bytes : Number.POSITIVE_INFINITY;
    try {
      for await (const { bytes, arrivesAtMs } of this.#underWay(from, towards)) {
        const piece = bytes.subarray(0, left);
        const waitMs = arrivesAtMs - performance.now();
        if (waitMs > 0) await sleep(waitMs);
        if (bytesPerSecond !== undefined) await sleep((piece.length / bytesPerSecond) * 1000);
        await this.#link?.pass(piece.length, towards);
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

  /** What a socket sends, each piece with when it arrives. Read on while pieces are under way. */
  async *#underWay(from: Socket, towards: "server" | "client"): AsyncGenerator<Piece> {
    const { latencyMs = 0 } = this.#fault;
    const shakenAtMs = towards === "server" ? this.#openedAtMs + 3 * latencyMs : 0;
    const pieces: Piece[] = [];
    let underwayBytes = 0;
    let wake = (): void => {};
    from.on("data", (bytes: Buffer) => {
      pieces.push({ bytes, arrivesAtMs: Math.max(performance.now() + latencyMs, shakenAtMs) });
      underwayBytes += bytes.length;
      if (underwayBytes > MAX_UNDERWAY_BYTES) from.pause();
      wake();
    });
    for (const event of ["end", "close"]) from.on(event, () => wake());
    for (;;) {
      const piece = pieces.shift();
      if (piece !== undefined) {
        underwayBytes -= piece.bytes.length;
        from.resume();
        yield piece;
      } else if (from.readableEnded || from.destroyed) {
        return;
      } else {
        await new Promise<void>((resolve) => (wake = resolve));
      }
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
