import * as v from "valibot";

import type { HttpMethod } from "./http-client.ts";
import { requireViewName } from "./server-url.ts";

/** What a view may keep, how its NARs are encoded and what it does with upstreams, beyond what Attic knows. */
export interface ViewLimits {
  /** Stored bytes; beyond them what was unused longest goes. */
  readonly maxSizeBytes?: number | "none";
  /** zstd, 1 to 19. */
  readonly compressionLevel?: number | "default";
  /** Whether the view's keys sign what its upstreams have. */
  readonly signsUpstream?: boolean;
  /** Whether pushes send what its upstreams have. */
  readonly pushesUpstream?: boolean;
}

/** What a garbage collection of a view did, or would do. */
export interface Collection {
  readonly view: string;
  readonly dryRun: boolean;
  /** Paths looked at; 0 for a view that is within its limits or has none. */
  readonly examined: number;
  /** Pins whose path is there. */
  readonly roots: number;
  readonly deleted: number;
  /** Paths that were to go and that somebody used meanwhile. */
  readonly spared: number;
  /** Stored bytes; the disk has them back after the NARs' grace. */
  readonly freedBytes: number;
  readonly remainingBytes: number;
  readonly durationMs: number;
}

/** A name under which a view keeps a path with all it refers to. */
export interface Pin {
  readonly name: string;
  readonly storePath: string;
  /** ISO 8601. */
  readonly createdAt: string;
}

/** Retention of views; all of it exists on our server only. */
export interface RetentionClient {
  /** Collects one view. Answers when it is done, which may take minutes. */
  collectView(view: string, options?: { readonly dryRun?: boolean }): Promise<Collection>;
  /** The same for every view; needs an admin token. */
  collectAll(options?: { readonly dryRun?: boolean }): Promise<Collection[]>;
  /** By name. */
  listPins(view: string): Promise<Pin[]>;
  /** A name that is taken moves. @throws {CacheError} `NOT_FOUND` when the view does not have the path. */
  putPin(view: string, name: string, storePath: string): Promise<"created" | "replaced">;
  /** @throws {CacheError} `NOT_FOUND` when there is no such pin. */
  deletePin(view: string, name: string): Promise<void>;
}

const CollectionAnswer = v.object({
  view: v.string(),
  dryRun: v.boolean(),
  examined: v.number(),
  roots: v.number(),
  deleted: v.number(),
  spared: v.number(),
  freedBytes: v.number(),
  remainingBytes: v.number(),
  durationMs: v.number(),
});
const Collections = v.object({ views: v.array(CollectionAnswer) });
const Pins = v.object({
  pins: v.array(v.object({ name: v.string(), storePath: v.string(), createdAt: v.string() })),
});
const PutPin = v.object({ kind: v.picklist(["created", "replaced"]) });

/** Sends to routes of ours. */
export interface OurRoutes {
  ask<Schema extends v.GenericSchema>(
    schema: Schema,
    method: HttpMethod,
    path: string,
    json?: unknown,
  ): Promise<v.InferOutput<Schema>>;
  /** Without an answer worth reading. */
  tell(method: HttpMethod, path: string, json?: unknown): Promise<void>;
}

/** Creates the calls about retention from what sends them. */
export function createRetentionClient(routes: OurRoutes): RetentionClient {
  return {
    collectView: (view, { dryRun = false } = {}) =>
      routes.ask(
        CollectionAnswer,
        "POST",
        `views/${requireViewName(view)}/gc?dryRun=${Number(dryRun)}`,
      ),
    collectAll: async ({ dryRun = false } = {}) =>
      (await routes.ask(Collections, "POST", `gc?dryRun=${Number(dryRun)}`)).views,
    listPins: async (view) => (await routes.ask(Pins, "GET", pinsPath(view))).pins,
    putPin: async (view, name, storePath) =>
      (await routes.ask(PutPin, "PUT", pinPath(view, name), { storePath })).kind,
    deletePin: (view, name) => routes.tell("DELETE", pinPath(view, name)),
  };
}

/** The body that changes limits; empty when nothing is named. */
export function formatLimits(limits: ViewLimits): object {
  const { maxSizeBytes, compressionLevel, signsUpstream, pushesUpstream } = limits;
  return {
    ...(signsUpstream === undefined ? {} : { signsUpstream }),
    ...(pushesUpstream === undefined ? {} : { pushesUpstream }),
    ...(maxSizeBytes === undefined
      ? {}
      : { maxSizeBytes: maxSizeBytes === "none" ? null : maxSizeBytes }),
    ...(compressionLevel === undefined
      ? {}
      : { compressionLevel: compressionLevel === "default" ? null : compressionLevel }),
  };
}

function pinsPath(view: string): string {
  return `views/${requireViewName(view)}/pins`;
}

function pinPath(view: string, name: string): string {
  return `${pinsPath(view)}/${encodeURIComponent(name)}`;
}
