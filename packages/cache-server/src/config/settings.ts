import { parseDurationMs, parseSizeBytes } from "@glorious/core";

import {
  type ListenAddress,
  parseBoolean,
  parseChoice,
  parseHeaderName,
  parseListen,
  parseList,
  parsePartSize,
  parsePath,
  parsePublicUrl,
  parseRate,
  parseText,
  parseTimerMs,
  parseUrlPath,
  parseTokenKeys,
  parseWhole,
  type TokenKeySetting,
} from "./setting-values.ts";

/** One setting: its key in the file, its variable, its meaning. The reference page is made from these. */
export interface Setting<T> {
  /** Dotted path in the configuration file. */
  readonly key: string;
  readonly variable: `FLYWHEEL_${string}`;
  /** Without it the setting may stay unset. */
  readonly default?: string;
  readonly meaning: string;
  /** Reads the value as written, in the file or the variable. Throws with the reason when it is none. */
  readonly parse: (text: string) => T;
}

/** The settings as values. Those without a default may be unset. */
export interface ServerSettings {
  readonly listen: ListenAddress;
  readonly dataDirectory: string | undefined;
  readonly publicUrl: string | undefined;
  readonly allowedHosts: readonly string[];
  readonly tlsCert: string | undefined;
  readonly tlsKey: string | undefined;
  readonly tlsClientCa: string | undefined;
  readonly tlsReloadIntervalMs: number;
  readonly tokenKeys: readonly TokenKeySetting[] | undefined;
  readonly tokenIssuer: string | undefined;
  readonly tokenAudiences: readonly string[];
  readonly tokenRequireExpiry: boolean;
  readonly trustPolicyFile: string | undefined;
  readonly trustReloadIntervalMs: number;
  readonly trustAddressHeader: string | undefined;
  readonly idleTimeoutMs: number;
  readonly maxNarSizeBytes: number;
  readonly maxNarInfoSizeBytes: number;
  readonly maxLogSizeBytes: number;
  readonly maxConcurrentUploads: number;
  readonly uploadMemoryBytes: number;
  readonly partThresholdBytes: number;
  readonly partBytes: number;
  readonly maxPartUploads: number;
  readonly maxPartUploadNarBytes: number;
  readonly compressionLevel: number;
  readonly uploadedFileMaxAgeMs: number;
  readonly pendingNarMaxAgeMs: number;
  readonly defaultRetentionMs: number | undefined;
  readonly accessResolutionMs: number;
  readonly collectIntervalMs: number;
  readonly narGraceMs: number;
  readonly objectGraceMs: number;
  readonly sweepIntervalMs: number;
  readonly overlayRetentionMs: number;
  readonly overlayMaxSizeBytes: number;
  readonly overlayMaxTotalSizeBytes: number;
  readonly overlayKeyFile: string | undefined;
  readonly recordReads: boolean;
  readonly provenanceMaxAgeMs: number;
  readonly scrubIntervalMs: number;
  readonly scrubBytesPerSecond: number;
  readonly shutdownTimeoutMs: number;
  readonly fsync: "full" | "none";
  readonly accelRedirect: string | undefined;
  readonly bazelEnabled: boolean;
  readonly bazelMaxSizeBytes: number;
  readonly bazelMaxBlobSizeBytes: number;
  readonly bazelTtlMs: number;
  readonly bazelMemoryBytes: number;
  readonly upstreamEnabled: boolean;
  readonly upstreamDeadlineMs: number;
  readonly upstreamMaxSizeBytes: number;
  readonly upstreamPositiveTtlMs: number;
  readonly upstreamNegativeTtlMs: number;
  readonly upstreamMaxDownloads: number;
  readonly upstreamEncoding: "zstd" | "as-is";
  readonly logLevel: "debug" | "info" | "warn" | "error";
  readonly logRequests: boolean;
  readonly metricsNeedAdmin: boolean;
  readonly metricsNameViews: boolean;
}

/** The names of {@link SETTINGS}. */
export type SettingName = keyof ServerSettings;

/** Every setting of the server, by the name the code uses. */
export const SETTINGS: {
  readonly [Name in SettingName]: Setting<NonNullable<ServerSettings[Name]>> &
    (undefined extends ServerSettings[Name] ? unknown : { readonly default: string });
} = {
  listen: {
    key: "listen",
    variable: "FLYWHEEL_LISTEN",
    default: "127.0.0.1:7480",
    meaning: "Address and port to listen on; port 0 takes a free one.",
    parse: parseListen,
  },
  dataDirectory: {
    key: "data",
    variable: "FLYWHEEL_DATA",
    meaning: "Directory of the embedded store, index and keys.",
    parse: parsePath,
  },
  publicUrl: {
    key: "publicUrl",
    variable: "FLYWHEEL_PUBLIC_URL",
    meaning:
      "Address that clients use, when a proxy stands before the server. Unset: what the request says.",
    parse: parsePublicUrl,
  },
  allowedHosts: {
    key: "allowedHosts",
    variable: "FLYWHEEL_ALLOWED_HOSTS",
    default: "",
    meaning: "Host headers to accept, with their ports, separated by commas. Empty: all.",
    parse: parseList,
  },
  tlsCert: {
    key: "tls.cert",
    variable: "FLYWHEEL_TLS_CERT",
    meaning: "PEM file of the certificate chain; read again when it changes. Unset: plain HTTP.",
    parse: parsePath,
  },
  tlsKey: {
    key: "tls.key",
    variable: "FLYWHEEL_TLS_KEY",
    meaning: "PEM file of the certificate's private key.",
    parse: parsePath,
  },
  tlsClientCa: {
    key: "tls.clientCa",
    variable: "FLYWHEEL_TLS_CLIENT_CA",
    meaning:
      "PEM file of the authority whose client certificates are required. Unset: none are asked for.",
    parse: parsePath,
  },
  tlsReloadIntervalMs: {
    key: "tls.reloadInterval",
    variable: "FLYWHEEL_TLS_RELOAD_INTERVAL",
    default: "5s",
    meaning: "How often the TLS files are looked at for changes.",
    parse: parseTimerMs,
  },
  tokenKeys: {
    key: "tokens.keys",
    variable: "FLYWHEEL_TOKEN_KEYS",
    meaning:
      "Keys of tokens: a list of {algorithm: HS256 or RS256, file, kid?}. The file holds the base64 secret, " +
      "or a PEM private or public key. The first that can signs new tokens. Unset: a key made in the data directory.",
    parse: parseTokenKeys,
  },
  tokenIssuer: {
    key: "tokens.issuer",
    variable: "FLYWHEEL_TOKEN_ISSUER",
    meaning: "Issuer that every token must name. Unset: any.",
    parse: parseText,
  },
  tokenAudiences: {
    key: "tokens.audiences",
    variable: "FLYWHEEL_TOKEN_AUDIENCES",
    default: "",
    meaning: "Audiences of which a token must name one, separated by commas. Empty: any.",
    parse: parseList,
  },
  tokenRequireExpiry: {
    key: "tokens.requireExpiry",
    variable: "FLYWHEEL_TOKEN_REQUIRE_EXPIRY",
    default: "true",
    meaning: "Refuses tokens that never expire.",
    parse: parseBoolean,
  },
  trustPolicyFile: {
    key: "trust.policyFile",
    variable: "FLYWHEEL_TRUST_POLICY_FILE",
    meaning:
      "The trust policy, in YAML or JSON: which forges' jobs get what without a stored secret (docs/how-to/identity.md). " +
      "Read again when it changes. Unset: no identity tokens are exchanged.",
    parse: parsePath,
  },
  trustReloadIntervalMs: {
    key: "trust.reloadInterval",
    variable: "FLYWHEEL_TRUST_RELOAD_INTERVAL",
    default: "5s",
    meaning: "How often the trust policy is looked at for changes.",
    parse: parseTimerMs,
  },
  trustAddressHeader: {
    key: "trust.addressHeader",
    variable: "FLYWHEEL_TRUST_ADDRESS_HEADER",
    meaning:
      "Header in which the proxy before the server names the client's address, such as X-Real-IP; refused exchanges " +
      "are limited by address. Only for a proxy that always sets it. Unset: the connection's own address.",
    parse: parseHeaderName,
  },
  idleTimeoutMs: {
    key: "limits.idleTimeout",
    variable: "FLYWHEEL_LIMITS_IDLE_TIMEOUT",
    default: "60s",
    meaning: "How long a client may send or take nothing in the middle of a body.",
    parse: parseTimerMs,
  },
  maxNarSizeBytes: {
    key: "limits.maxNarSize",
    variable: "FLYWHEEL_LIMITS_MAX_NAR_SIZE",
    default: "64 GiB",
    meaning: "The largest NAR, uncompressed.",
    parse: parseSizeBytes,
  },
  maxNarInfoSizeBytes: {
    key: "limits.maxNarInfoSize",
    variable: "FLYWHEEL_LIMITS_MAX_NAR_INFO_SIZE",
    default: "1 MiB",
    meaning: "The largest narinfo and upload preamble.",
    parse: parseSizeBytes,
  },
  maxLogSizeBytes: {
    key: "limits.maxLogSize",
    variable: "FLYWHEEL_LIMITS_MAX_LOG_SIZE",
    default: "16 MiB",
    meaning: "The largest build log.",
    parse: parseSizeBytes,
  },
  maxConcurrentUploads: {
    key: "limits.maxConcurrentUploads",
    variable: "FLYWHEEL_LIMITS_MAX_CONCURRENT_UPLOADS",
    default: "8",
    meaning: "Uploads that the server advises one client to run at once.",
    parse: parseWhole,
  },
  uploadMemoryBytes: {
    key: "limits.uploadMemory",
    variable: "FLYWHEEL_LIMITS_UPLOAD_MEMORY",
    default: "1 GiB",
    meaning:
      "Memory that all uploads under way may take for decoding and encoding. Beyond it they wait in turn, for up to " +
      "limits.idleTimeout, and are then asked to come again.",
    parse: parseSizeBytes,
  },
  partThresholdBytes: {
    key: "uploads.partThreshold",
    variable: "FLYWHEEL_UPLOADS_PART_THRESHOLD",
    default: "64 MiB",
    meaning:
      "NARs from this size on are sent in parts by our client, so that a broken upload goes on where it was. " +
      "Their bytes are written to the disk twice.",
    parse: parseSizeBytes,
  },
  partBytes: {
    key: "uploads.partSize",
    variable: "FLYWHEEL_UPLOADS_PART_SIZE",
    default: "16 MiB",
    meaning:
      "NAR bytes in each part, a multiple of 8 MiB up to 256 MiB. A client keeps two parts in memory.",
    parse: parsePartSize,
  },
  maxPartUploads: {
    key: "uploads.maxOpen",
    variable: "FLYWHEEL_UPLOADS_MAX_OPEN",
    default: "64",
    meaning: "Unfinished uploads in parts that one view may have.",
    parse: parseWhole,
  },
  maxPartUploadNarBytes: {
    key: "uploads.maxOpenSize",
    variable: "FLYWHEEL_UPLOADS_MAX_OPEN_SIZE",
    default: "256 GiB",
    meaning: "Bytes of all NARs together whose uploads in parts one view may have unfinished.",
    parse: parseSizeBytes,
  },
  compressionLevel: {
    key: "compression.level",
    variable: "FLYWHEEL_COMPRESSION_LEVEL",
    default: "3",
    meaning:
      "zstd level (1 to 19) of NARs, where a view has none of its own: those that the server encodes itself, and " +
      "those of `flywheel push`.",
    parse: (text) => parseWhole(text, { min: 1, max: 19 }),
  },
  uploadedFileMaxAgeMs: {
    key: "retention.uploadedFiles",
    variable: "FLYWHEEL_RETENTION_UPLOADED_FILES",
    default: "30d",
    meaning:
      "How long a file uploaded by `nix copy` stays readable as it came; the uploader's Nix remembers its name for 30 days.",
    parse: parseDurationMs,
  },
  pendingNarMaxAgeMs: {
    key: "retention.pendingNars",
    variable: "FLYWHEEL_RETENTION_PENDING_NARS",
    default: "24h",
    meaning: "How long a NAR whose narinfo never comes is kept.",
    parse: parseDurationMs,
  },
  defaultRetentionMs: {
    key: "retention.default",
    variable: "FLYWHEEL_RETENTION_DEFAULT",
    meaning:
      "How long unused paths are kept in views without a retention of their own. Unset: forever.",
    parse: parseDurationMs,
  },
  accessResolutionMs: {
    key: "retention.accessResolution",
    variable: "FLYWHEEL_RETENTION_ACCESS_RESOLUTION",
    default: "1h",
    meaning:
      "How exactly the last use of a path is known. What was used within this time is never collected.",
    parse: parseDurationMs,
  },
  collectIntervalMs: {
    key: "retention.collectInterval",
    variable: "FLYWHEEL_RETENTION_COLLECT_INTERVAL",
    default: "1h",
    meaning: "How often views are collected that have a retention or a size limit.",
    parse: parseTimerMs,
  },
  narGraceMs: {
    key: "retention.narGrace",
    variable: "FLYWHEEL_RETENTION_NAR_GRACE",
    default: "24h",
    meaning: "How long a NAR stays readable after the last path that needs it was deleted.",
    parse: parseDurationMs,
  },
  objectGraceMs: {
    key: "retention.objectGrace",
    variable: "FLYWHEEL_RETENTION_OBJECT_GRACE",
    default: "1h",
    meaning:
      "How long an object that nothing refers to stays in the store; longer than any upload takes to commit.",
    parse: parseDurationMs,
  },
  sweepIntervalMs: {
    key: "retention.sweepInterval",
    variable: "FLYWHEEL_RETENTION_SWEEP_INTERVAL",
    default: "10m",
    meaning: "How often expired things are removed.",
    parse: parseTimerMs,
  },
  overlayRetentionMs: {
    key: "overlays.retention",
    variable: "FLYWHEEL_OVERLAYS_RETENTION",
    default: "7d",
    meaning:
      "How long after its last write an overlay is deleted, where the policy has nothing of its own.",
    parse: parseDurationMs,
  },
  overlayMaxSizeBytes: {
    key: "overlays.maxSize",
    variable: "FLYWHEEL_OVERLAYS_MAX_SIZE",
    default: "10 GiB",
    meaning:
      "What one overlay may hold, where the policy has nothing of its own. Beyond it writes are refused.",
    parse: parseSizeBytes,
  },
  overlayMaxTotalSizeBytes: {
    key: "overlays.maxTotalSize",
    variable: "FLYWHEEL_OVERLAYS_MAX_TOTAL_SIZE",
    default: "50 GiB",
    meaning:
      "What all overlays of one tenant may hold together, where the policy has nothing of its own.",
    parse: parseSizeBytes,
  },
  overlayKeyFile: {
    key: "overlays.keyFile",
    variable: "FLYWHEEL_OVERLAYS_KEY_FILE",
    meaning:
      "File of the base64 secret that the signing keys of overlays are derived from; the same for all replicas. " +
      "Unset: one made in the data directory.",
    parse: parsePath,
  },
  recordReads: {
    key: "provenance.reads",
    variable: "FLYWHEEL_PROVENANCE_READS",
    default: "true",
    meaning:
      "Records which token's holder read which path, so that a revocation names who used what it hides.",
    parse: parseBoolean,
  },
  provenanceMaxAgeMs: {
    key: "provenance.retention",
    variable: "FLYWHEEL_PROVENANCE_RETENTION",
    default: "90d",
    meaning: "How long it is kept who read what, and who wrote what is there no more.",
    parse: parseDurationMs,
  },
  scrubIntervalMs: {
    key: "scrub.interval",
    variable: "FLYWHEEL_SCRUB_INTERVAL",
    default: "30d",
    meaning:
      "How often the server reads each stored object and compares it with its hash (docs/how-to/scrub.md). " +
      "`0s`: only when told to.",
    parse: parseDurationMs,
  },
  scrubBytesPerSecond: {
    key: "scrub.bytesPerSecond",
    variable: "FLYWHEEL_SCRUB_BYTES_PER_SECOND",
    default: "16 MiB",
    meaning: "How fast it reads then; a quarter of that while it has others to serve.",
    parse: parseRate,
  },
  shutdownTimeoutMs: {
    key: "shutdownTimeout",
    variable: "FLYWHEEL_SHUTDOWN_TIMEOUT",
    default: "60s",
    meaning: "How long running requests may finish after the server was told to stop.",
    parse: parseTimerMs,
  },
  fsync: {
    key: "store.fsync",
    variable: "FLYWHEEL_STORE_FSYNC",
    default: "full",
    meaning:
      "`full` makes every object durable before it is acknowledged; `none` is for throw-away data only.",
    parse: (text) => parseChoice(text, ["full", "none"]),
  },
  accelRedirect: {
    key: "store.accelRedirect",
    variable: "FLYWHEEL_STORE_ACCEL_REDIRECT",
    meaning:
      "Path under which nginx serves the store internally, such as `/_store/`: NARs asked for through it are " +
      "then sent by nginx itself (docs/behind-nginx.md). Unset: the server sends them.",
    parse: parseUrlPath,
  },
  bazelEnabled: {
    key: "bazel.enabled",
    variable: "FLYWHEEL_BAZEL_ENABLED",
    default: "true",
    meaning: "Serves the Bazel remote cache, over HTTP and gRPC, on the same port.",
    parse: parseBoolean,
  },
  bazelMaxSizeBytes: {
    key: "bazel.maxSize",
    variable: "FLYWHEEL_BAZEL_MAX_SIZE",
    default: "100 GiB",
    meaning:
      "What the Bazel data of one tenant may take. Beyond it what was not used for longest goes; a view's own " +
      "maximum size holds for its Bazel data as well.",
    parse: parseSizeBytes,
  },
  bazelMaxBlobSizeBytes: {
    key: "bazel.maxBlobSize",
    variable: "FLYWHEEL_BAZEL_MAX_BLOB_SIZE",
    default: "8 GiB",
    meaning: "The largest blob and value, uncompressed.",
    parse: parseSizeBytes,
  },
  bazelTtlMs: {
    key: "bazel.ttl",
    variable: "FLYWHEEL_BAZEL_TTL",
    default: "3h",
    meaning:
      "How long what a build was told of is kept, whatever else needs the room; Bazel counts on 3 hours " +
      "(`--experimental_remote_cache_ttl`).",
    parse: parseDurationMs,
  },
  bazelMemoryBytes: {
    key: "bazel.memory",
    variable: "FLYWHEEL_BAZEL_MEMORY",
    default: "192 MiB",
    meaning:
      "Memory for what all tenants used lately, together; it grows to that as it is needed. Then the tenants with the " +
      "most, and those idle for longest, give to the others. The process has some 300 MiB beside it under 256 streams.",
    parse: parseSizeBytes,
  },
  upstreamEnabled: {
    key: "upstream.enabled",
    variable: "FLYWHEEL_UPSTREAM_ENABLED",
    default: "true",
    meaning:
      "Asks the upstreams of a view for what it has not (docs/how-to/one-substituter.md). `false`: what was fetched " +
      "from them is served, and nothing else is asked for.",
    parse: parseBoolean,
  },
  upstreamDeadlineMs: {
    key: "upstream.deadline",
    variable: "FLYWHEEL_UPSTREAM_DEADLINE",
    default: "2s",
    meaning:
      "How long a look-up waits for upstreams. Whoever has not answered by then counts as not having it.",
    parse: parseTimerMs,
  },
  upstreamMaxSizeBytes: {
    key: "upstream.maxSize",
    variable: "FLYWHEEL_UPSTREAM_MAX_SIZE",
    default: "20 GiB",
    meaning:
      "What is kept of one upstream that has no limit of its own; beyond it what was not used for longest goes. Apart " +
      "from what views hold.",
    parse: parseSizeBytes,
  },
  upstreamPositiveTtlMs: {
    key: "upstream.positiveTtl",
    variable: "FLYWHEEL_UPSTREAM_POSITIVE_TTL",
    default: "1d",
    meaning: "How long an upstream is believed to have a path that it said it has.",
    parse: parseDurationMs,
  },
  upstreamNegativeTtlMs: {
    key: "upstream.negativeTtl",
    variable: "FLYWHEEL_UPSTREAM_NEGATIVE_TTL",
    default: "5m",
    meaning: "How long an upstream is believed not to have a path that it said it has not.",
    parse: parseTimerMs,
  },
  upstreamMaxDownloads: {
    key: "upstream.maxDownloads",
    variable: "FLYWHEEL_UPSTREAM_MAX_DOWNLOADS",
    default: "16",
    meaning: "How many NARs are fetched from one upstream at a time.",
    parse: parseWhole,
  },
  upstreamEncoding: {
    key: "upstream.encoding",
    variable: "FLYWHEEL_UPSTREAM_ENCODING",
    default: "zstd",
    meaning:
      "How what was fetched is kept. `zstd`: what comes in zstd as it came, and the rest is encoded as zstd once " +
      "nothing is being fetched. `as-is`: everything as it came.",
    parse: (text) => parseChoice(text, ["zstd", "as-is"]),
  },
  logLevel: {
    key: "log.level",
    variable: "FLYWHEEL_LOG_LEVEL",
    default: "info",
    meaning: "The least severe lines to log: debug, info, warn or error.",
    parse: (text) => parseChoice(text, ["debug", "info", "warn", "error"]),
  },
  logRequests: {
    key: "log.requests",
    variable: "FLYWHEEL_LOG_REQUESTS",
    default: "true",
    meaning: "Logs a line for every request.",
    parse: parseBoolean,
  },
  metricsNeedAdmin: {
    key: "metrics.needAdmin",
    variable: "FLYWHEEL_METRICS_NEED_ADMIN",
    default: "false",
    meaning:
      "Shows `/metrics` to administrators' tokens only. The figures name no tenant, view or path, but for " +
      "`metrics.nameViews`.",
    parse: parseBoolean,
  },
  metricsNameViews: {
    key: "metrics.nameViews",
    variable: "FLYWHEEL_METRICS_NAME_VIEWS",
    default: "false",
    meaning:
      "Adds to `/metrics` how long requests took, for each of the 200 busiest views by its name. Set " +
      "`metrics.needAdmin` as well where names are nobody's business.",
    parse: parseBoolean,
  },
};
