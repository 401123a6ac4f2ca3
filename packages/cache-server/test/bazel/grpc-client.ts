import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import {
  ByteStream,
  ReadRequestSchema,
  RequestMetadataSchema,
  WriteRequestSchema,
  WriteResponseSchema,
} from "@glorious/reapi";
import {
  type ChannelCredentials,
  Client,
  type ClientOptions,
  credentials,
  type Metadata,
  Metadata as GrpcMetadata,
  type ServiceError,
} from "@grpc/grpc-js";

import type { TestServer } from "../test-server.ts";

interface Method {
  readonly name: string;
  readonly parent: { readonly typeName: string };
  readonly input: DescMessage;
  readonly output: DescMessage;
}

/** What a call came to: its answer, or the status that it ended with. */
export type Answer<Output extends DescMessage> =
  | { readonly code: 0; readonly message: MessageShape<Output> }
  | { readonly code: number; readonly details: string };

/** A client of the server's gRPC face, independent of ours. */
export interface GrpcClient extends AsyncDisposable {
  unary<M extends Method>(
    method: M,
    request: MessageInitShape<M["input"]>,
    options?: CallOptions,
  ): Promise<Answer<M["output"]>>;
  /** All answers of a call, and its status. */
  stream<M extends Method>(
    method: M,
    request: MessageInitShape<M["input"]>,
    options?: CallOptions,
  ): Promise<{ readonly code: number; readonly messages: MessageShape<M["output"]>[] }>;
  read(
    resourceName: string,
    options?: { offset?: number; limit?: number },
  ): Promise<{ code: number; bytes: Buffer }>;
  write(
    messages: readonly WriteMessage[],
  ): Promise<{ code: number; committed: number | undefined }>;
  /** Begins a write that the test goes on with by itself. */
  startWrite(): StartedWrite;
}

export interface CallOptions {
  readonly token?: string | undefined;
  /** Sent as the id of the build tool's run. */
  readonly invocation?: string | undefined;
}

export interface WriteMessage {
  readonly resourceName?: string;
  readonly offset: number;
  readonly data: Uint8Array;
  readonly finish?: boolean;
}

export interface StartedWrite {
  write(message: WriteMessage): void;
  end(): void;
  cancel(): void;
  readonly outcome: Promise<{ code: number; committed: number | undefined }>;
}

export function openGrpcClient(
  server: Pick<TestServer, "url">,
  token?: string,
  channel: ChannelCredentials = credentials.createInsecure(),
  channelOptions: ClientOptions = {},
): GrpcClient {
  // A connection of its own, which other clients in this process do not share.
  const channelSettings = { "grpc.use_local_subchannel_pool": 1, ...channelOptions };
  const client = new Client(new URL(server.url).host, channel, channelSettings);
  const metadataOf = (options: CallOptions = {}): Metadata => {
    const metadata = new GrpcMetadata();
    const used = options.token ?? token;
    if (used !== undefined && used !== "") metadata.set("authorization", `Bearer ${used}`);
    if (options.invocation !== undefined) {
      const toolInvocationId = options.invocation;
      const message = create(RequestMetadataSchema, { toolInvocationId, actionId: "a" });
      const name = "build.bazel.remote.execution.v2.requestmetadata-bin";
      metadata.set(name, Buffer.from(toBinary(RequestMetadataSchema, message)));
    }
    return metadata;
  };
  const encode =
    (schema: DescMessage) =>
    (message: object): Buffer =>
      Buffer.from(toBinary(schema, message as MessageShape<typeof schema>));
  const pathOf = ({ parent, name }: Method): string => `/${parent.typeName}/${name}`;

  const startWrite = (): StartedWrite => {
    const outcome = Promise.withResolvers<{ code: number; committed: number | undefined }>();
    const call = client.makeClientStreamRequest(
      pathOf(ByteStream.method.write),
      encode(WriteRequestSchema),
      (bytes) => fromBinary(WriteResponseSchema, bytes),
      metadataOf(),
      (error: ServiceError | null, response) =>
        outcome.resolve(
          error === null
            ? { code: 0, committed: Number(response?.committedSize) }
            : { code: error.code, committed: undefined },
        ),
    );
    call.on("error", () => {});
    return {
      write({ resourceName = "", offset, data, finish = false }) {
        call.write(
          create(WriteRequestSchema, {
            resourceName,
            writeOffset: BigInt(offset),
            data,
            finishWrite: finish,
          }),
        );
      },
      end: () => call.end(),
      cancel: () => call.cancel(),
      outcome: outcome.promise,
    };
  };

  const stream = <M extends Method>(
    method: M,
    request: MessageInitShape<M["input"]>,
    options?: CallOptions,
  ): Promise<{ readonly code: number; readonly messages: MessageShape<M["output"]>[] }> =>
    new Promise((resolve) => {
      const messages: MessageShape<M["output"]>[] = [];
      const call = client.makeServerStreamRequest(
        pathOf(method),
        encode(method.input),
        (bytes) => fromBinary(method.output, bytes),
        create(method.input, request as MessageInitShape<DescMessage>),
        metadataOf(options),
      );
      call.on("data", (message: MessageShape<M["output"]>) => messages.push(message));
      call.on("error", (error: ServiceError) => resolve({ code: error.code, messages }));
      call.on("end", () => resolve({ code: 0, messages }));
    });

  return {
    unary: <M extends Method>(
      method: M,
      request: MessageInitShape<M["input"]>,
      options?: CallOptions,
    ): Promise<Answer<M["output"]>> =>
      new Promise((resolve) => {
        client.makeUnaryRequest(
          pathOf(method),
          encode(method.input),
          (bytes) => fromBinary(method.output, bytes),
          create(method.input, request as MessageInitShape<DescMessage>),
          metadataOf(options),
          (error: ServiceError | null, message) => {
            if (error !== null) resolve({ code: error.code, details: error.details });
            else resolve({ code: 0, message: message as MessageShape<M["output"]> });
          },
        );
      }),
    stream,
    async read(resourceName, { offset = 0, limit = 0 } = {}) {
      const request = create(ReadRequestSchema, {
        resourceName,
        readOffset: BigInt(offset),
        readLimit: BigInt(limit),
      });
      const { code, messages } = await stream(ByteStream.method.read, request);
      const chunks = messages.map((message) =>
        "data" in message ? message.data : Buffer.alloc(0),
      );
      return { code, bytes: Buffer.concat(chunks) };
    },
    async write(messages) {
      const call = startWrite();
      for (const message of messages) call.write(message);
      call.end();
      return await call.outcome;
    },
    startWrite,
    async [Symbol.asyncDispose]() {
      client.close();
    },
  };
}

/** A blob's bytes as the messages of one write. */
export function writesOf(
  resourceName: string,
  bytes: Uint8Array,
  options: { readonly from?: number; readonly finish?: boolean } = {},
): WriteMessage[] {
  const { from = 0, finish = true } = options;
  const pieceBytes = 16 * 1024;
  const messages: WriteMessage[] = [];
  for (let at = from; at < bytes.length || messages.length === 0; at += pieceBytes) {
    const data = bytes.subarray(at, at + pieceBytes);
    messages.push({
      ...(messages.length === 0 ? { resourceName } : {}),
      offset: at,
      data,
      finish: finish && at + pieceBytes >= bytes.length,
    });
  }
  return messages;
}
