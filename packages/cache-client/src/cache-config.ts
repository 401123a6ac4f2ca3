import { CacheError } from "@glorious/core";
import { NAR_ENCODING } from "@glorious/nix-store";
import * as v from "valibot";

import { printable, Sentence, Word } from "./server-words.ts";

/** How long a path stays: the server's own rule, or seconds since it was last of use (0 = for ever). */
export type RetentionPeriod = "global" | { readonly seconds: number };

/** What a cache says about a view. Every field is optional on the wire. */
export interface CacheConfig {
  /** What goes into `substituters` of nix.conf. */
  readonly substituterEndpoint?: string;
  /** Where the server wants its API called. */
  readonly apiEndpoint?: string;
  /** `<name>:<base64>`, what goes into `trusted-public-keys`. */
  readonly publicKey?: string;
  readonly isPublic?: boolean;
  readonly storeDir?: string;
  /** Nix asks the cache with the lower number first. */
  readonly priority?: number;
  /** Paths signed by a key of one of these names are not pushed: an upstream has them. */
  readonly upstreamCacheKeyNames?: readonly string[];
  readonly retentionPeriod?: RetentionPeriod;
  /** Present when the server is ours. */
  readonly flywheel?: FlywheelConfig;
}

/** What our own server adds to a view's configuration. */
export interface FlywheelConfig {
  /** Where its own routes begin, with a trailing slash. */
  readonly api: string;
  readonly serverVersion?: string;
  /** Every key that signs, oldest first; {@link CacheConfig.publicKey} is the newest of them. */
  readonly publicKeys?: readonly string[];
  /** How many uploads at a time the server wishes from one client. */
  readonly maxConcurrentUploads?: number;
  /** The zstd level that the view wants its NARs encoded at. */
  readonly compressionLevel?: number;
  /** How large the view may be, in stored bytes; absent: as large as it gets. */
  readonly maxSizeBytes?: number;
  /** Absent when the server takes NARs in one piece only, or in parts that are no whole frames of ours. */
  readonly uploadParts?: UploadParts;
  /** Where Bazel finds the view; absent when the server serves no Bazel. */
  readonly bazel?: BazelEndpoints;
}

/** The addresses of a view for Bazel's `--remote_cache`. */
export interface BazelEndpoints {
  /** `grpc://…` or `grpcs://…`; the view is the instance name. */
  readonly grpc: string;
  /** `http://…/<view>` or `https://…/<view>`. */
  readonly http: string;
}

/** How the server wishes large NARs. */
export interface UploadParts {
  /** NARs from this size on. */
  readonly thresholdBytes: number;
  /** NAR bytes in each part. */
  readonly partBytes: number;
}

const UploadAdvice = v.pipe(v.number(), v.integer(), v.minValue(1));
const Wire = v.object({
  substituter_endpoint: v.nullish(Word),
  api_endpoint: v.nullish(Word),
  public_key: v.nullish(Word),
  is_public: v.nullish(v.boolean()),
  store_dir: v.nullish(Word),
  priority: v.nullish(v.number()),
  upstream_cache_key_names: v.nullish(v.array(v.string())),
  retention_period: v.nullish(
    v.union([v.literal("Global"), v.object({ Period: v.pipe(v.number(), v.integer()) })]),
  ),
  flywheel: v.nullish(
    v.object({
      version: v.number(),
      api: Word,
      server: v.nullish(Sentence),
      publicKeys: v.nullish(v.array(Word)),
      maxConcurrentUploads: v.nullish(UploadAdvice),
      compressionLevel: v.nullish(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(19))),
      maxSizeBytes: v.nullish(v.number()),
      uploadParts: v.nullish(
        v.object({
          thresholdBytes: v.pipe(v.number(), v.integer(), v.minValue(0)),
          partBytes: UploadAdvice,
        }),
      ),
      bazel: v.nullish(
        v.object({
          grpc: v.pipe(v.string(), v.regex(/^grpcs?:\/\/[\x21-\x7E]+$/)),
          http: v.pipe(v.string(), v.regex(/^https?:\/\/[\x21-\x7E]+$/)),
        }),
      ),
    }),
  ),
});

/** The version of our own protocol this client speaks. */
const PROTOCOL_VERSION = 1;

/**
 * Parses the answer to `GET /_api/v1/cache-config/{view}`, Attic's `CacheConfig` with our addition.
 *
 * @param request - The request line, for messages.
 * @throws {CacheError} `UNSUPPORTED` when it is none, or our server speaks a newer protocol only.
 */
export function parseCacheConfig(text: string, request: string): CacheConfig {
  const wire = parseAnswer(Wire, text, request);
  const { flywheel } = wire;
  if (isGiven(flywheel) && flywheel.version !== PROTOCOL_VERSION) {
    throw new CacheError(
      "UNSUPPORTED",
      `${request}: the server speaks protocol ${flywheel.version}, this client ${PROTOCOL_VERSION}`,
      { hint: "Upgrade whichever of the two is older." },
    );
  }
  const maxConcurrentUploads = flywheel?.maxConcurrentUploads;
  const uploadParts = flywheel?.uploadParts;
  return {
    ...(isGiven(wire.substituter_endpoint) && { substituterEndpoint: wire.substituter_endpoint }),
    ...(isGiven(wire.api_endpoint) && { apiEndpoint: wire.api_endpoint }),
    ...(isGiven(wire.public_key) && { publicKey: wire.public_key }),
    ...(isGiven(wire.is_public) && { isPublic: wire.is_public }),
    ...(isGiven(wire.store_dir) && { storeDir: wire.store_dir }),
    ...(isGiven(wire.priority) && { priority: wire.priority }),
    ...(isGiven(wire.upstream_cache_key_names) && {
      upstreamCacheKeyNames: wire.upstream_cache_key_names,
    }),
    ...(isGiven(wire.retention_period) && {
      retentionPeriod:
        wire.retention_period === "Global" ? "global" : { seconds: wire.retention_period.Period },
    }),
    ...(isGiven(flywheel) && {
      flywheel: {
        api: flywheel.api,
        ...(isGiven(flywheel.server) && { serverVersion: flywheel.server }),
        ...(isGiven(flywheel.publicKeys) && { publicKeys: flywheel.publicKeys }),
        ...(isGiven(maxConcurrentUploads) && { maxConcurrentUploads }),
        ...(isGiven(flywheel.compressionLevel) && { compressionLevel: flywheel.compressionLevel }),
        ...(isGiven(flywheel.maxSizeBytes) && { maxSizeBytes: flywheel.maxSizeBytes }),
        ...(isGiven(uploadParts) &&
          uploadParts.partBytes % NAR_ENCODING.frameBytes === 0 && { uploadParts }),
        ...(isGiven(flywheel.bazel) && { bazel: flywheel.bazel }),
      },
    }),
  };
}

function isGiven<T>(value: T | null | undefined): value is T {
  return value !== null && value !== undefined;
}

/**
 * Parses a server's JSON answer by a schema.
 *
 * @throws {CacheError} `UNSUPPORTED` when it is something else, such as a web page.
 */
export function parseAnswer<Schema extends v.GenericSchema>(
  schema: Schema,
  text: string,
  request: string,
): v.InferOutput<Schema> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw notACache(request, "no JSON", error);
  }
  const result = v.safeParse(schema, json);
  if (result.success) return result.output;
  const issue = result.issues[0];
  throw notACache(
    request,
    `${v.getDotPath(issue) ?? "the answer"}: ${printable(issue.message)}`,
    undefined,
  );
}

/**
 * Returns an answer of which nothing but its coming is of interest.
 *
 * @throws {CacheError} `UNSUPPORTED` when it is a web page.
 */
export function requireNoPage(text: string, request: string): string {
  if (/^\s*</.test(text)) throw notACache(request, "a web page", undefined);
  return text;
}

function notACache(request: string, reason: string, cause: unknown): CacheError {
  return new CacheError("UNSUPPORTED", `${request} answered something unexpected (${reason})`, {
    cause,
    hint: "Check that the address is the one of a cache server, without the view at its end.",
  });
}
