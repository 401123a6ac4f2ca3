import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import {
  ActionCache,
  type ActionResult,
  type BlobDigest,
  ContentAddressableStorage,
  digestOf,
} from "@glorious/reapi";
import { Client, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";

/** What an answer came to; `undefined` when nobody knows, because the server went away. */
export type Outcome<Value> = { readonly value: Value } | { readonly code: number } | undefined;

/** A remote cache as a build tool of ours uses it. */
export interface RemoteCache extends AsyncDisposable {
  findMissing(instance: string, digests: readonly BlobDigest[]): Promise<Outcome<Set<string>>>;
  upload(instance: string, bytes: Buffer): Promise<Outcome<undefined>>;
  /** Bytes of a blob; `undefined` when it is not there or its bytes are others. */
  read(instance: string, digest: BlobDigest): Promise<Outcome<Buffer | undefined>>;
  getAction(instance: string, action: BlobDigest): Promise<Outcome<ActionResult>>;
  putAction(
    instance: string,
    action: BlobDigest,
    outputs: readonly BlobDigest[],
  ): Promise<Outcome<undefined>>;
}

interface Method {
  readonly name: string;
  readonly parent: { readonly typeName: string };
  readonly input: DescMessage;
  readonly output: DescMessage;
}

/** What the end of a server looks like from here. */
const UNKNOWN = new Set<number>([status.UNAVAILABLE, status.CANCELLED, status.DEADLINE_EXCEEDED]);
const TIMEOUT_MS = 20_000;

export function openRemoteCache(url: string, token: string): RemoteCache {
  const client = new Client(new URL(url).host, credentials.createInsecure(), {
    "grpc.initial_reconnect_backoff_ms": 50,
    "grpc.max_reconnect_backoff_ms": 100,
  });
  const metadata = new Metadata();
  metadata.set("authorization", `Bearer ${token}`);

  const call = <M extends Method>(
    method: M,
    request: MessageInitShape<M["input"]>,
  ): Promise<Outcome<MessageShape<M["output"]>>> =>
    new Promise((resolve) => {
      client.makeUnaryRequest(
        `/${method.parent.typeName}/${method.name}`,
        (message: MessageShape<DescMessage>) => Buffer.from(toBinary(method.input, message)),
        (bytes) => fromBinary(method.output, bytes),
        create(method.input, request as MessageInitShape<DescMessage>),
        metadata,
        { deadline: Date.now() + TIMEOUT_MS },
        (error: ServiceError | null, message) => {
          if (error !== null) resolve(UNKNOWN.has(error.code) ? undefined : { code: error.code });
          else resolve({ value: message as MessageShape<M["output"]> });
        },
      );
    });
  const cas = ContentAddressableStorage.method;
  const wire = ({ hash, sizeBytes }: BlobDigest): { hash: string; sizeBytes: bigint } => ({
    hash,
    sizeBytes: BigInt(sizeBytes),
  });

  return {
    async findMissing(instanceName, digests) {
      const blobDigests = digests.map(wire);
      const found = await call(cas.findMissingBlobs, { instanceName, blobDigests });
      if (found === undefined || "code" in found) return found;
      return { value: new Set(found.value.missingBlobDigests.map(({ hash }) => hash)) };
    },
    async upload(instanceName, data) {
      const requests = [{ digest: wire(digestOf(data)), data }];
      const done = await call(cas.batchUpdateBlobs, { instanceName, requests });
      if (done === undefined || "code" in done) return done;
      const code = done.value.responses[0]?.status?.code ?? 0;
      return code === 0 ? { value: undefined } : { code };
    },
    async read(instanceName, digest) {
      const digests = [wire(digest)];
      const done = await call(cas.batchReadBlobs, { instanceName, digests });
      if (done === undefined || "code" in done) return done;
      const bytes = Buffer.from(done.value.responses[0]?.data ?? []);
      return { value: digestOf(bytes).hash === digest.hash ? bytes : undefined };
    },
    getAction: (instanceName, action) =>
      call(ActionCache.method.getActionResult, { instanceName, actionDigest: wire(action) }),
    async putAction(instanceName, action, outputs) {
      const outputFiles = outputs.map((digest, at) => ({
        path: `out/${at}`,
        digest: wire(digest),
      }));
      const done = await call(ActionCache.method.updateActionResult, {
        instanceName,
        actionDigest: wire(action),
        actionResult: { outputFiles, executionMetadata: { worker: "churn" } },
      });
      return done === undefined || "code" in done ? done : { value: undefined };
    },
    async [Symbol.asyncDispose]() {
      client.close();
    },
  };
}
