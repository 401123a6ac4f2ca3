import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer, type RequestListener } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Server } from "node:net";
import path from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { getCACertificates, setDefaultCACertificates } from "node:tls";

import { createTemporaryDirectory } from "@glorious/testkit";
import { expect, test } from "vitest";

import { createFileConnections } from "../src/nix-face/file-connections.ts";

interface Serving extends AsyncDisposable {
  readonly url: URL;
  /** Connections so far. */
  connections(): number;
  closeIdle(): void;
}

async function serve(
  listener: RequestListener,
  tls?: { readonly key: Buffer; readonly cert: Buffer },
): Promise<Serving> {
  const server = tls === undefined ? createServer(listener) : createTlsServer(tls, listener);
  let connections = 0;
  (server as Server).on(tls === undefined ? "connection" : "secureConnection", () => {
    connections += 1;
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    url: new URL(`${tls === undefined ? "http" : "https"}://127.0.0.1:${port}/nar/x`),
    connections: () => connections,
    closeIdle: () => server.closeIdleConnections(),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

const signal = AbortSignal.timeout(60_000);

/** Reads a file as somebody does who takes his time now and then. */
async function readSlowly(
  files: ReturnType<typeof createFileConnections>,
  url: URL,
): Promise<Buffer> {
  const { body } = await files.get(url, {}, signal);
  const chunks: Buffer[] = [];
  for await (const chunk of body) {
    for (let turns = chunks.length % 7; turns > 0; turns -= 1) await nextTurn();
    chunks.push(Buffer.from(chunk));
  }
  return Buffer.concat(chunks);
}

test.each(["with its length", "in chunks", "to the connection's end"])(
  "files come whole %s, and in turn over the same connection if they can",
  async (how) => {
    const sent = [0, 1, 70_000, 3_000_000].map((size) => randomBytes(size));
    let count = 0;
    await using server = await serve((_, response) => {
      const file = sent[count] ?? Buffer.alloc(0);
      count += 1;
      if (how === "with its length") response.writeHead(200, { "content-length": file.length });
      else if (how !== "in chunks") {
        response.useChunkedEncodingByDefault = false;
        response.writeHead(200, { connection: "close" });
      }
      for (let at = 0; at < file.length; at += 50_000) {
        response.write(file.subarray(at, at + 50_000));
      }
      response.end();
    });
    using files = createFileConnections(5000);
    for (const file of sent) expect(await readSlowly(files, server.url)).toEqual(file);
    expect(server.connections()).toBe(how === "to the connection's end" ? 4 : 1);
  },
);

test("a connection that the server closed meanwhile is replaced, unseen", async () => {
  const file = randomBytes(1000);
  await using server = await serve((_, response) => response.end(file));
  using files = createFileConnections(5000);
  expect(await readSlowly(files, server.url)).toEqual(file);
  server.closeIdle();
  expect(await readSlowly(files, server.url)).toEqual(file);
  expect(server.connections()).toBe(2);
});

test("what is given up ends, for whoever waits for it too", async () => {
  const { promise: isGone, resolve } = Promise.withResolvers<void>();
  await using server = await serve((request, response) => {
    response.writeHead(200, { "content-length": 1000 }).write("half");
    request.socket.on("close", resolve);
  });
  using files = createFileConnections(5000);
  const { body } = await files.get(server.url, {}, signal);
  const iterator = body[Symbol.asyncIterator]();
  expect((await iterator.next()).value).toEqual(Buffer.from("half"));
  const waiting = iterator.next();
  body.destroy();
  await expect(waiting).rejects.toThrow("given up");
  await isGone;
});

test("more files than connections wait for each other", async () => {
  const file = randomBytes(10_000);
  await using server = await serve((_, response) => setImmediate(() => response.end(file)));
  using files = createFileConnections(5000);
  const read = await Promise.all(Array.from({ length: 200 }, () => readSlowly(files, server.url)));
  expect(read.every((each) => each.equals(file))).toBe(true);
  expect(server.connections()).toBeLessThanOrEqual(64);
});

test("TLS is read in the same way, and its certificate looked at", async () => {
  await using folder = await createTemporaryDirectory("file-connections-");
  const [key, cert] = [path.join(folder.path, "key.pem"), path.join(folder.path, "cert.pem")];
  const words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split(" ");
  words.push("-subj", "/CN=cache", "-addext", "subjectAltName=IP:127.0.0.1");
  execFileSync("openssl", [...words, "-keyout", key, "-out", cert], { stdio: "ignore" });
  const tls = { key: await readFile(key), cert: await readFile(cert) };
  const file = randomBytes(2_000_000);
  await using server = await serve((_, response) => response.end(file), tls);
  using files = createFileConnections(5000);
  await expect(readSlowly(files, server.url)).rejects.toThrow(/self-signed/);
  const before = getCACertificates();
  setDefaultCACertificates([...before, tls.cert.toString()]);
  try {
    for (let times = 0; times < 2; times += 1) {
      expect(await readSlowly(files, server.url)).toEqual(file);
    }
  } finally {
    setDefaultCACertificates(before);
  }
  expect(server.connections()).toBe(1);
});
