import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

import { afterAll, beforeAll, expect, test } from "vitest";

import { type ConnectionFault, type FaultProxy, startFaultProxy } from "../src/fault-proxy.ts";

let echo: Server;
beforeAll(async () => {
  echo = createServer((socket) => socket.on("error", () => {}).pipe(socket));
  echo.listen(0, "127.0.0.1");
  await once(echo, "listening");
});
afterAll(() => echo.close());

function startProxy(fault: ConnectionFault = {}): Promise<FaultProxy> {
  return startFaultProxy(
    () => (echo.address() as { port: number }).port,
    () => fault,
  );
}

/** Resolves with the socket, or the code of what went wrong. */
async function dial({ port }: FaultProxy): Promise<Socket | string> {
  const socket = connect({ port, host: "127.0.0.1" });
  try {
    await once(socket, "connect");
    // Disposing of the proxy breaks it.
    socket.on("error", () => {});
    return socket;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? "";
  }
}

async function open(proxy: FaultProxy): Promise<Socket> {
  const socket = await dial(proxy);
  if (typeof socket === "string") throw new Error(`The connection failed: ${socket}`);
  return socket;
}

async function receive(socket: Socket, bytes: number): Promise<string> {
  let text = "";
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    text += String(chunk);
    if (text.length >= bytes) return text;
  }
  return text;
}

test("bytes take the round trip longer, and those sent meanwhile no longer than it", async () => {
  await using proxy = await startProxy({ latencyMs: 40 });
  const socket = await open(proxy);
  const startMs = performance.now();
  socket.write("a");
  expect(await receive(socket, 1)).toBe("a");
  // Not less than the handshake and a round trip; timers may fire a millisecond early.
  expect(performance.now() - startMs).toBeGreaterThan(158);

  const againMs = performance.now();
  for (let piece = 0; piece < 250; piece += 1) {
    socket.write("b");
    await new Promise(setImmediate);
  }
  expect(await receive(socket, 250)).toBe("b".repeat(250));
  expect(performance.now() - againMs).toBeGreaterThan(78);
  // One after the other they would take twenty seconds.
  expect(performance.now() - againMs).toBeLessThan(15_000);
});

test("a refusing proxy is like a server that died, and takes connections again on its port", async () => {
  await using proxy = await startProxy();
  const socket = await open(proxy);
  const closed = new Promise((resolve) => socket.on("close", resolve));
  await proxy.refuse();
  await closed;
  expect(await dial(proxy)).toBe("ECONNREFUSED");
  await proxy.accept();
  const again = await open(proxy);
  again.write("x");
  expect(await receive(again, 1)).toBe("x");
  expect(proxy.connections).toBe(2);
});

test.each(["reset", "truncate"] as const)("after so many bytes comes a %s", async (kind) => {
  await using proxy = await startProxy({ after: { bytes: 3, towards: "client", kind } });
  const socket = await open(proxy);
  const end = new Promise<string>((resolve) => {
    socket.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? ""));
    socket.on("end", () => resolve("end"));
  });
  let received = "";
  socket.on("data", (chunk: Buffer) => (received += chunk.toString()));
  socket.write("abcdef");
  expect(await end).toBe(kind === "reset" ? "ECONNRESET" : "end");
  expect("abc").toContain(received);
  expect([...proxy.faults]).toEqual([[kind, 1]]);
});

test("a black hole takes everything and says nothing", async () => {
  await using proxy = await startProxy({
    after: { bytes: 0, towards: "server", kind: "black-hole" },
  });
  const socket = await open(proxy);
  let heard = "";
  socket.on("data", () => (heard = "data")).on("close", () => (heard = "close"));
  socket.write("abc");
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(heard).toBe("");
  expect(proxy.faults.get("black-hole")).toBe(1);
});

test("connections share a link, and together get no more than it carries", async () => {
  await using proxy = await startFaultProxy(
    () => (echo.address() as { port: number }).port,
    () => ({}),
    { bytesPerSecond: 1_000_000 },
  );
  const startMs = performance.now();
  const texts = await Promise.all(
    Array.from({ length: 4 }, async () => {
      const socket = await open(proxy);
      socket.write("x".repeat(50_000));
      return receive(socket, 50_000);
    }),
  );
  expect(texts.map(({ length }) => length)).toEqual([50_000, 50_000, 50_000, 50_000]);
  expect(performance.now() - startMs).toBeGreaterThan(198);
});
