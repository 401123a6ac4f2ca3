import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";

import {
  type CallOptions,
  ChannelCredentials,
  Client,
  type ClientOptions,
  compressionAlgorithms,
  Metadata,
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type ServiceError,
  status,
  type UntypedHandleCall,
} from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { attachSocket } from "../../src/attach-socket.ts";
import type { CallEnd, ClientReceiver } from "../../src/client-call.ts";
import { type ClientConnection, createClientConnection } from "../../src/client-connection.ts";
import { startTestServer, type TestServer } from "../test-server.ts";

const same = (bytes: Buffer): Buffer => bytes;

function createClient(server: TestServer, options: ClientOptions = {}): Client & Disposable {
  const client = new Client(`127.0.0.1:${server.port}`, ChannelCredentials.createInsecure(), {
    "grpc.max_receive_message_length": -1,
    ...options,
  });
  return Object.assign(client, { [Symbol.dispose]: () => client.close() });
}

function unary(
  client: Client,
  method: string,
  request: Buffer,
  metadata: Metadata = new Metadata(),
  options: CallOptions = {},
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest<Buffer, Buffer>(
      `/test.Echo/${method}`,
      same,
      same,
      request,
      metadata,
      options,
      (error, answer) => (error === null ? resolve(answer as Buffer) : reject(error)),
    );
  });
}

describe("@grpc/grpc-js as the client", () => {
  test("500 unary calls at once are answered, each with its own", async () => {
    await using server = await startTestServer();
    using client = createClient(server);
    const requests = Array.from({ length: 500 }, (_, index) => Buffer.from(`call ${index}`));
    const answers = await Promise.all(requests.map((request) => unary(client, "Unary", request)));
    expect(answers).toEqual(requests);
  });

  test("a message of 3.9 MiB goes both ways, plain and gzipped", async () => {
    await using server = await startTestServer();
    const body = Buffer.alloc(3_900_000, "compressible ");
    for (const algorithm of [compressionAlgorithms.identity, compressionAlgorithms.gzip]) {
      using client = createClient(server, { "grpc.default_compression_algorithm": algorithm });
      expect((await unary(client, "Unary", body)).equals(body)).toBe(true);
    }
  });

  test("metadata goes both ways, text and binary", async () => {
    await using server = await startTestServer();
    using client = createClient(server);
    const metadata = new Metadata();
    metadata.set("authorization", "Bearer token");
    metadata.set("x-raw-bin", Buffer.from([0, 1, 254, 255]));
    const head = new Promise<Metadata>((resolve) => {
      const call = client.makeUnaryRequest<Buffer, Buffer>(
        "/test.Echo/Headers",
        same,
        same,
        Buffer.alloc(0),
        metadata,
        (_, answer) => expect(answer).toEqual(Buffer.from([0, 1, 254, 255])),
      );
      call.on("metadata", resolve);
    });
    expect((await head).get("x-got")).toEqual(["Bearer token"]);
  });

  test("a status comes with its words and trailers", async () => {
    await using server = await startTestServer();
    using client = createClient(server);
    const error: ServiceError = await unary(client, "Refuse", Buffer.alloc(0)).then(
      () => expect.fail("it was answered"),
      (reason: unknown) => reason as ServiceError,
    );
    expect(error.code).toBe(status.NOT_FOUND);
    expect(error.details).toBe("größer als %");
    expect(error.metadata.get("x-tail-bin")).toEqual([Buffer.from([0, 255])]);
  });

  test("an unknown method is UNIMPLEMENTED, a message that is too large RESOURCE_EXHAUSTED", async () => {
    await using server = await startTestServer({ limits: { maxMessageBytes: 1000 } });
    using client = createClient(server);
    await expect(unary(client, "None", Buffer.alloc(0))).rejects.toMatchObject({
      code: status.UNIMPLEMENTED,
    });
    await expect(unary(client, "Unary", Buffer.alloc(1001))).rejects.toMatchObject({
      code: status.RESOURCE_EXHAUSTED,
    });
    expect(await unary(client, "Unary", Buffer.alloc(1000))).toHaveLength(1000);
  });

  test("a deadline ends the call at both ends", async () => {
    await using server = await startTestServer();
    using client = createClient(server);
    const late = unary(client, "Never", Buffer.alloc(0), undefined, { deadline: Date.now() + 50 });
    await expect(late).rejects.toMatchObject({ code: status.DEADLINE_EXCEEDED });
    await expect.poll(() => server.cancelled.length).toBe(1);
  });

  test("2000 messages of a stream come back in order, through back-pressure", async () => {
    await using server = await startTestServer();
    using client = createClient(server);
    const call = client.makeBidiStreamRequest<Buffer, Buffer>("/test.Echo/Stream", same, same);
    const received: number[] = [];
    call.on("data", (bytes: Buffer) => received.push(bytes.readUInt32BE(0)));
    const ended = new Promise<Metadata>((resolve) =>
      call.on("status", ({ metadata }) => resolve(metadata)),
    );
    for (let index = 0; index < 2000; index += 1) {
      const bytes = Buffer.alloc(16_384);
      bytes.writeUInt32BE(index);
      if (!call.write(bytes)) await new Promise((resolve) => call.once("drain", resolve));
    }
    call.end();
    expect((await ended).get("x-done")).toEqual(["1"]);
    expect(received).toEqual(Array.from({ length: 2000 }, (_, index) => index));
  });

  test("a drained server lets calls end, and the client goes on with a new connection", async () => {
    await using server = await startTestServer();
    using client = createClient(server);
    await unary(client, "Unary", Buffer.from("first"));
    server.connections[0]?.drain(performance.now());
    // Calls that were on their way are still taken on the old connection.
    while (server.connections.length < 2) await unary(client, "Unary", Buffer.from("more"));
    await expect.poll(() => server.connections[0]?.isClosed).toBe(true);
  });

  test("TLS with ALPN", async () => {
    const directory = mkdtempSync(path.join(tmpdir(), "grpc-tls-"));
    const [key, cert] = [path.join(directory, "key.pem"), path.join(directory, "cert.pem")];
    const names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
    execFileSync(
      "openssl",
      ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, ...names],
      { stdio: "ignore" },
    );
    const tls = { key: readFileSync(key, "utf8"), cert: readFileSync(cert, "utf8") };
    await using server = await startTestServer({ tls });
    const client = new Client(
      `localhost:${server.port}`,
      ChannelCredentials.createSsl(Buffer.from(tls.cert)),
    );
    const body = Buffer.alloc(1_000_000, "x");
    expect((await unary(client, "Unary", body)).equals(body)).toBe(true);
    client.close();
  });
});

describe("@grpc/grpc-js as the server", () => {
  const server = new Server({ "grpc.max_receive_message_length": -1 });
  let port = 0;

  beforeAll(async () => {
    const method = (name: string, isStream: boolean): ServiceDefinition[string] => ({
      path: `/test.Echo/${name}`,
      requestStream: isStream,
      responseStream: isStream,
      requestSerialize: same,
      requestDeserialize: same,
      responseSerialize: same,
      responseDeserialize: same,
    });
    const implementation: Record<string, UntypedHandleCall> = {
      Unary: (call: { request: Buffer }, answer: (error: null, value: Buffer) => void) =>
        answer(null, call.request),
      Refuse: (_: unknown, answer: (error: object) => void) =>
        answer({ code: status.NOT_FOUND, details: "größer als %" }),
      Never: () => {},
      Stream: (call: NodeJS.ReadWriteStream) => call.pipe(call),
    };
    server.addService(
      {
        Unary: method("Unary", false),
        Refuse: method("Refuse", false),
        Never: method("Never", false),
        Stream: method("Stream", true),
      },
      implementation,
    );
    port = await new Promise<number>((resolve, reject) => {
      server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      );
    });
  });
  afterAll(() => server.forceShutdown());

  function open(): ClientConnection {
    return attachSocket(connect(port, "127.0.0.1"), (onOutput, nowMs) =>
      createClientConnection({ onOutput }, nowMs),
    );
  }

  function startCall(
    connection: ClientConnection,
    method: string,
    messages: readonly Buffer[],
    timeoutMs = 10_000,
  ): Promise<{ received: Buffer[]; end: CallEnd }> {
    return new Promise((resolve) => {
      const received: Buffer[] = [];
      const receiver: ClientReceiver = {
        onMessage: (_, bytes) => received.push(Buffer.from(bytes)),
        onEnd: (_, end) => resolve({ received, end }),
      };
      const started = connection.startCall(
        { path: `/test.Echo/${method}`, authority: "localhost", timeoutMs },
        receiver,
        performance.now(),
      );
      for (const bytes of messages) started?.sendMessage(bytes);
      started?.halfClose();
    });
  }

  test("our client's calls are answered: one, a refused one, a late one, a stream of 5 MiB", async () => {
    const connection = open();
    expect(await startCall(connection, "Unary", [Buffer.from("hello")])).toMatchObject({
      received: [Buffer.from("hello")],
      end: { status: 0 },
    });
    expect((await startCall(connection, "Refuse", [Buffer.alloc(0)])).end).toMatchObject({
      status: status.NOT_FOUND,
      message: "größer als %",
    });
    expect((await startCall(connection, "Never", [Buffer.alloc(0)], 50)).end).toMatchObject({
      status: status.DEADLINE_EXCEEDED,
    });
    const messages = Array.from({ length: 50 }, (_, index) => Buffer.alloc(100_000, index));
    const stream = await startCall(connection, "Stream", messages);
    expect(stream.end.status).toBe(0);
    expect(Buffer.concat(stream.received).equals(Buffer.concat(messages))).toBe(true);
    connection.close();
  });
});
