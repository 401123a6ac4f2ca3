import {
  type CallReceiver,
  type ClientConnection,
  createClientConnection,
  createServerConnection,
  type GrpcTransport,
  type ServerCall,
} from "@glorious/grpc";

import { Finding, type FuzzTarget, openPlain } from "../fuzz-target.ts";

const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER_BYTES = 9;

/** All that is to be seen of a connection: what it told and what it wrote. */
interface Trace {
  readonly events: string[];
  output: Buffer;
  isClosed: boolean;
}

/** Feeds a connection in pieces of `pieceBytes`, then lets it end. */
function observe(
  input: Buffer,
  pieceBytes: number,
  open: (events: string[]) => { readonly connection: GrpcTransport; readonly open: () => number },
): Trace {
  const events: string[] = [];
  const { connection, open: countOpen } = open(events);
  for (let start = 0; start < input.length; start += pieceBytes) {
    connection.receive(input.subarray(start, start + pieceBytes), 1000);
  }
  const output = Buffer.concat(connection.takeOutput());
  const { isClosed } = connection;
  connection.tick(1_000_000);
  connection.takeOutput();
  connection.transportClosed();
  if (countOpen() !== 0) throw new Finding("a call outlives its connection, or ends twice");
  return { events, output, isClosed };
}

/** A server that answers every message, with a count of the calls that have not ended. */
function openServer(events: string[]): {
  readonly connection: GrpcTransport;
  readonly open: () => number;
} {
  const calls = new Set<ServerCall>();
  const receiver: CallReceiver = {
    onMessage(call, message) {
      events.push(`message ${Buffer.from(message).toString("hex")}`);
      call.sendMessage(message);
    },
    onHalfClose(call) {
      events.push("half-close");
      call.finish(0);
    },
    onCancel(_, reason) {
      events.push(`cancel ${reason}`);
    },
  };
  const connection = createServerConnection(
    {
      onCall(call) {
        events.push(`call ${call.path} ${call.authority}`);
        calls.add(call);
        return receiver;
      },
      onError: (error) => {
        throw error;
      },
    },
    1000,
  );
  return { connection, open: () => [...calls].filter((call) => !call.isOver).length };
}

/** A client with two calls open. */
function openClient(events: string[]): {
  readonly connection: ClientConnection;
  readonly open: () => number;
} {
  let open = 0;
  const connection = createClientConnection({}, 1000);
  for (const path of ["/a.B/One", "/a.B/Two"]) {
    const call = connection.startCall(
      { path, authority: "test", metadata: [["authorization", "Bearer token"]], timeoutMs: 5000 },
      {
        onMessage: (_, message) => events.push(`message ${Buffer.from(message).toString("hex")}`),
        onEnd(_, { status, message }) {
          open -= 1;
          events.push(`end ${status} ${message}`);
        },
      },
      1000,
    );
    open += 1;
    call?.sendMessage(Buffer.from(`hello ${path}`));
    call?.halfClose();
  }
  return { connection, open: () => open };
}

/** What the two say to each other when nothing goes wrong. */
function record(): { readonly fromClient: Buffer; readonly fromServer: Buffer } {
  const client = openClient([]).connection;
  const server = openServer([]).connection;
  const fromClient: Uint8Array[] = [];
  const fromServer: Uint8Array[] = [];
  for (let round = 0; round < 4; round += 1) {
    for (const piece of client.takeOutput()) {
      fromClient.push(piece);
      server.receive(piece, 1000);
    }
    for (const piece of server.takeOutput()) {
      fromServer.push(piece);
      client.receive(piece, 1000);
    }
  }
  return { fromClient: Buffer.concat(fromClient), fromServer: Buffer.concat(fromServer) };
}

function requireWholeFrames(output: Buffer, prefixBytes: number): void {
  let position = prefixBytes;
  while (position < output.length) {
    if (position + FRAME_HEADER_BYTES > output.length)
      throw new Finding("half a frame was written");
    position += FRAME_HEADER_BYTES + output.readUIntBE(position, 3);
  }
  if (position !== output.length) throw new Finding("half a frame was written");
}

function createTarget(
  name: "grpc-server" | "grpc-client",
  open: typeof openServer,
  prefixBytes: number,
): FuzzTarget {
  return {
    name,
    summary:
      "bytes as the other end's: nothing but the connection ends, cuts change nothing, every call ends once",
    seeds: async () => {
      const { fromClient, fromServer } = record();
      return [name === "grpc-server" ? fromClient : fromServer];
    },
    dictionary: [
      PREFACE,
      ...[0, 1, 2, 3, 4, 5, 6, 7, 8, 9].flatMap((type) =>
        [0, 1, 4, 5, 8].map((flags) => Buffer.from([0, 0, 5, type, flags, 0, 0, 0, 1])),
      ),
      Buffer.from([0, 0, 0, 4, 1, 0, 0, 0, 0]),
      Buffer.from([0, 0, 0, 0, 5]),
      Buffer.from([0x82, 0x86, 0x84, 0xbe]),
      Buffer.from([0x3f, 0xe1, 0x1f]),
    ],
    maxBytes: 4096,
    guides: /\/grpc\/src\//,
    open: openPlain((input) => {
      const whole = observe(input, Math.max(1, input.length), open);
      requireWholeFrames(whole.output, prefixBytes);
      const cut = observe(input, 1 + (input.length % 13), open);
      if (whole.events.join("\n") !== cut.events.join("\n")) {
        throw new Finding("other events when the bytes are cut otherwise");
      }
      if (!whole.output.equals(cut.output)) {
        throw new Finding("other answers when the bytes are cut otherwise");
      }
      return whole.isClosed ? "closed" : "open";
    }),
  };
}

export const grpcServerTarget: FuzzTarget = createTarget("grpc-server", openServer, 0);
export const grpcClientTarget: FuzzTarget = createTarget("grpc-client", openClient, PREFACE.length);
