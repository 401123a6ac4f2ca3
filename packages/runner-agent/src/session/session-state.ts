import { readFile } from "node:fs/promises";

import { replaceFile } from "@glorious/cache-client";
import { CacheError } from "@glorious/core";
import * as v from "valibot";

import type { SessionStatus } from "../statistics.ts";
import { type ProcessIdentity, ProcessIdentitySchema } from "./process-identity.ts";
import type { SessionFiles } from "./session-files.ts";

/** Where Nix finds a view. */
export interface ViewAddress {
  readonly view: string;
  readonly kind: "flywheel" | "attic";
  /** The view's address for Nix. */
  readonly substituterUrl: string;
  /** Where the server's own routes begin. */
  readonly api?: string | undefined;
}

/** What the Nix face is to be. */
export interface NixFaceSettings {
  /** Views of the same server that are read after the job's own, in this order. */
  readonly extra: readonly ViewAddress[];
  readonly prefetch: boolean;
  readonly spoolBytes?: number | undefined;
  /** NARs of any size are read ahead. */
  readonly largeNars: boolean;
}

/** What the Bazel face is to be. */
export interface BazelFaceSettings {
  readonly grpc: string;
  readonly instanceName: string;
  /** Builds bring every output to this machine at once. */
  readonly downloadsAll: boolean;
}

/** How an agent pushes what the job builds. */
export interface UploadSettings {
  readonly mode: "hook" | "store-diff";
  /** Regular expressions of store paths that are not pushed for their own sake. */
  readonly exclude: readonly string[];
  /** The Nix command. */
  readonly nix: string;
  readonly storeDir: string;
}

/** Where an agent's token comes from. */
export type CredentialSettings =
  /** From the job's identity, again and again. */
  | {
      readonly kind: "exchange";
      readonly audience: string;
      readonly view?: string | undefined;
      readonly mode?: "read" | "write" | undefined;
    }
  /** The token file's, as long as it lasts. */
  | { readonly kind: "fixed" }
  | { readonly kind: "anonymous" };

/** What an agent is to do. */
export interface AgentSettings {
  readonly version: 1;
  readonly server: string;
  /** The view that is read, and what is behind it; empty until the server has named it. */
  readonly view: string;
  /** Where it is for Nix; absent until the server has answered. */
  readonly address?: Omit<ViewAddress, "view"> | undefined;
  /** The view that is written. */
  readonly write?: string | undefined;
  readonly status: SessionStatus;
  readonly credentials: CredentialSettings;
  /** In the faces' addresses, so that other users of the machine cannot read through them. */
  readonly secret: string;
  readonly nix?: NixFaceSettings | undefined;
  readonly bazel?: BazelFaceSettings | undefined;
  /** Where the server serves Bazel, whether that is wanted or not. */
  readonly bazelUrl?: string | undefined;
  readonly uploads?: UploadSettings | undefined;
  readonly drainTimeoutSeconds: number;
  readonly maxAgeSeconds: number;
  /** The runner's process for this job: the agent ends with it. */
  readonly job?: ProcessIdentity | undefined;
  readonly startedAt: string;
}

const text = v.pipe(v.string(), v.minLength(1));
const address = {
  kind: v.picklist(["flywheel", "attic"]),
  substituterUrl: text,
  api: v.optional(text),
};
const seconds = v.pipe(v.number(), v.minValue(0));
const Settings: v.GenericSchema<AgentSettings> = v.object({
  version: v.literal(1),
  server: text,
  view: v.string(),
  address: v.optional(v.object(address)),
  write: v.optional(text),
  status: v.picklist(["ready", "read-only", "pending", "degraded", "disabled"]),
  credentials: v.variant("kind", [
    v.object({
      kind: v.literal("exchange"),
      audience: text,
      view: v.optional(text),
      mode: v.optional(v.picklist(["read", "write"])),
    }),
    v.object({ kind: v.literal("fixed") }),
    v.object({ kind: v.literal("anonymous") }),
  ]),
  secret: text,
  nix: v.optional(
    v.object({
      extra: v.array(v.object({ view: text, ...address })),
      prefetch: v.boolean(),
      spoolBytes: v.optional(v.number()),
      largeNars: v.boolean(),
    }),
  ),
  bazel: v.optional(v.object({ grpc: text, instanceName: text, downloadsAll: v.boolean() })),
  bazelUrl: v.optional(text),
  uploads: v.optional(
    v.object({
      mode: v.picklist(["hook", "store-diff"]),
      exclude: v.array(v.string()),
      nix: text,
      storeDir: text,
    }),
  ),
  drainTimeoutSeconds: seconds,
  maxAgeSeconds: seconds,
  job: v.optional(ProcessIdentitySchema),
  startedAt: text,
});

/** The addresses that an agent serves. */
export interface FaceAddresses {
  readonly nix?: { readonly url: string } | undefined;
  readonly bazel?: { readonly grpc: string; readonly http: string } | undefined;
}

/** What an agent says of itself. */
export interface AgentSession {
  readonly version: 1;
  readonly state: "running" | "ended";
  readonly process: ProcessIdentity;
  /** The control socket. */
  readonly socket: string;
  readonly faces: FaceAddresses;
}

const Session: v.GenericSchema<AgentSession> = v.object({
  version: v.literal(1),
  state: v.picklist(["running", "ended"]),
  process: ProcessIdentitySchema,
  socket: text,
  faces: v.object({
    nix: v.optional(v.object({ url: text })),
    bazel: v.optional(v.object({ grpc: text, http: text })),
  }),
});

/** Reads what the agent of a session is to do. @throws {CacheError} `NOT_FOUND`, `CONFIG`. */
export function readSettings(files: SessionFiles): Promise<AgentSettings> {
  return readState(files.settings, Settings);
}

/** Writes it, for the agent that is about to start. */
export function writeSettings(files: SessionFiles, settings: AgentSettings): Promise<void> {
  return writeState(files.settings, settings);
}

/** Reads what a session's agent is, which may be dead. @throws {CacheError} `NOT_FOUND`, `CONFIG`. */
export function readSession(files: SessionFiles): Promise<AgentSession> {
  return readState(files.session, Session);
}

/** Writes it, at once or not at all. */
export function writeSession(files: SessionFiles, session: AgentSession): Promise<void> {
  return writeState(files.session, session);
}

/** Writes JSON that only its owner may read. */
export function writeState(file: string, value: unknown): Promise<void> {
  return writeSessionFile(file, `${JSON.stringify(value, undefined, 2)}\n`);
}

/** Writes a file that only its owner may read, at once or not at all. A session is over when its machine is. */
export function writeSessionFile(file: string, contents: string): Promise<void> {
  return replaceFile(file, contents, { mode: 0o600, isDurable: false });
}

/** Reads JSON of a session's folder. @throws {CacheError} `NOT_FOUND`, `CONFIG`. */
export async function readState<Schema extends v.GenericSchema>(
  file: string,
  schema: Schema,
): Promise<v.InferOutput<Schema>> {
  let json: unknown;
  try {
    json = JSON.parse(await readFile(file, "utf8"));
  } catch (cause) {
    const isAbsent = (cause as NodeJS.ErrnoException).code === "ENOENT";
    throw new CacheError(
      isAbsent ? "NOT_FOUND" : "CONFIG",
      isAbsent ? `There is no session: ${file} does not exist` : `${file} cannot be read as JSON`,
      { cause, hint: "Run `flywheel setup` first, or name a session's folder with --session." },
    );
  }
  const result = v.safeParse(schema, json);
  if (result.success) return result.output;
  const [issue] = result.issues;
  throw new CacheError(
    "CONFIG",
    `${file} is malformed: ${v.getDotPath(issue) ?? "the document"}: ${issue.message}`,
  );
}
