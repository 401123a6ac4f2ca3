import * as v from "valibot";

import type { OurRoutes } from "./retention-client.ts";
import { requireViewName } from "./server-url.ts";

/** A cache that views fall back to, as their readers see it. */
export interface ViewUpstream {
  readonly name: string;
  readonly url: string;
  /** `<name>:<base64>` each. */
  readonly publicKeys: readonly string[];
  readonly storeDir: string;
  /** Lower is preferred; among equal ones the view's order decides. */
  readonly priority: number;
  /** Whether it belongs to one view alone. */
  readonly isPrivate: boolean;
  /** `resting`: it failed and is left alone for a while. `undefined` where nobody asks it. */
  readonly state?: string | undefined;
  /** What was wrong last, since the server's start. */
  readonly lastFault?: { readonly reason: string; readonly secondsAgo: number } | undefined;
  /** What was fetched from it for whichever view; only for who configures the view. */
  readonly paths?: number | undefined;
  /** Stored bytes of that. */
  readonly fileBytes?: number | undefined;
  readonly maxSizeBytes?: number | undefined;
}

/** A view that is looked into when another is read. */
export interface ReadView {
  readonly view: string;
  /** Whether it is the one that fills itself with what tenants agree on. */
  readonly isCommons: boolean;
  readonly signsUpstream: boolean;
  /** The names of its own upstreams, in its order. */
  readonly upstreams: readonly string[];
}

/** The upstreams of a view, and what it does with what they have. */
export interface ViewUpstreams {
  /** Whether the view's keys sign it. */
  readonly signsUpstream: boolean;
  /** Whether pushes send it as well. */
  readonly pushesUpstream: boolean;
  /** In the view's order. */
  readonly upstreams: readonly ViewUpstream[];
  /** The views that a read by this token looks into, in order: the view, its base, those behind it. */
  readonly reads: readonly ReadView[];
  /** Their upstreams, each once, in the order that they are preferred in. */
  readonly asked: readonly ViewUpstream[];
}

/** An upstream as an administrator sees it. */
export interface Upstream extends ViewUpstream {
  /** The only view that may have it. */
  readonly view?: string | undefined;
  readonly hasCredentials: boolean;
  /** Whether others on the way can read what is fetched: plain HTTP to another machine. */
  readonly isReadableOnTheWay: boolean;
  /** Views that have it. */
  readonly views: readonly string[];
  readonly paths: number;
  readonly fileBytes: number;
  readonly maxSizeBytes: number;
  /** ISO 8601. */
  readonly createdAt: string;
}

/** What to change about an upstream; what is left out stays as it is. */
export interface UpstreamChange {
  /** When a key goes, all that was fetched goes with it. */
  readonly publicKeys?: readonly string[];
  readonly priority?: number;
  /** Stored bytes to keep of what was fetched; `null` is the server's default. */
  readonly maxSizeBytes?: number | null;
  /** The value of an `Authorization` header, for an upstream of one view. Secret. */
  readonly authorization?: string;
}

/** An upstream to be defined. */
export interface NewUpstream extends UpstreamChange {
  readonly name: string;
  readonly url: string;
  readonly publicKeys: readonly string[];
  readonly storeDir?: string;
  /** The only view that may have it. */
  readonly view?: string;
}

/** What an upstream answered when it was tried out. */
export interface UpstreamTrial {
  readonly isReachable: boolean;
  readonly durationMs: number;
  readonly problems: ReadonlyArray<{ readonly reason: string; readonly message: string }>;
  readonly storeDir?: string | undefined;
  readonly priority?: number | undefined;
  /** The path that was asked for; with its name when it is there and signed by a key of the upstream. */
  readonly sample?:
    | { readonly storePathHash: string; readonly storePath?: string | undefined }
    | undefined;
}

/** Upstreams; all of it exists on our server only. All but those of a view need an admin token. */
export interface UpstreamsClient {
  /** By name. */
  listUpstreams(): Promise<readonly Upstream[]>;
  addUpstream(upstream: NewUpstream): Promise<Upstream>;
  changeUpstream(name: string, change: UpstreamChange): Promise<Upstream>;
  /** Returns the names of the views that had it. */
  removeUpstream(name: string): Promise<readonly string[]>;
  /** Lets the server ask it now, for a path if one is given. */
  tryUpstream(name: string, storePathHash?: string): Promise<UpstreamTrial>;
  viewUpstreams(view: string): Promise<ViewUpstreams>;
  /** Makes these the view's upstreams, in this order. */
  setViewUpstreams(view: string, names: readonly string[]): Promise<ViewUpstreams>;
}

const VIEW_UPSTREAM = {
  name: v.string(),
  url: v.string(),
  publicKeys: v.array(v.string()),
  storeDir: v.string(),
  priority: v.number(),
  isPrivate: v.boolean(),
  state: v.optional(v.string()),
  lastFault: v.optional(v.object({ reason: v.string(), secondsAgo: v.number() })),
};
const ViewUpstreamList = v.array(
  v.object({
    ...VIEW_UPSTREAM,
    paths: v.optional(v.number()),
    fileBytes: v.optional(v.number()),
    maxSizeBytes: v.optional(v.number()),
  }),
);
const ViewUpstreamsAnswer = v.pipe(
  v.object({
    signsUpstream: v.boolean(),
    pushesUpstream: v.boolean(),
    upstreams: ViewUpstreamList,
    // Servers of before say what the view itself has alone.
    reads: v.optional(
      v.array(
        v.object({
          view: v.string(),
          isCommons: v.boolean(),
          signsUpstream: v.boolean(),
          upstreams: v.array(v.string()),
        }),
      ),
      [],
    ),
    asked: v.optional(ViewUpstreamList),
  }),
  v.transform(({ asked, ...answer }) => ({ ...answer, asked: asked ?? answer.upstreams })),
);
const UpstreamAnswer = v.object({
  ...VIEW_UPSTREAM,
  view: v.optional(v.string()),
  hasCredentials: v.boolean(),
  isReadableOnTheWay: v.boolean(),
  views: v.array(v.string()),
  paths: v.number(),
  fileBytes: v.number(),
  maxSizeBytes: v.number(),
  createdAt: v.string(),
});
const UpstreamList = v.object({ upstreams: v.array(UpstreamAnswer) });
const RemovedUpstream = v.object({ views: v.array(v.string()) });
const Trial = v.object({
  isReachable: v.boolean(),
  durationMs: v.number(),
  problems: v.array(v.object({ reason: v.string(), message: v.string() })),
  storeDir: v.optional(v.string()),
  priority: v.optional(v.number()),
  sample: v.optional(v.object({ storePathHash: v.string(), storePath: v.optional(v.string()) })),
});

/** Creates the calls about upstreams from what sends them. */
export function createUpstreamsClient({ ask }: Pick<OurRoutes, "ask">): UpstreamsClient {
  return {
    listUpstreams: async () => (await ask(UpstreamList, "GET", "upstreams")).upstreams,
    addUpstream: (upstream) => ask(UpstreamAnswer, "POST", "upstreams", upstream),
    changeUpstream: (name, change) => ask(UpstreamAnswer, "PATCH", upstreamPath(name), change),
    removeUpstream: async (name) =>
      (await ask(RemovedUpstream, "DELETE", upstreamPath(name))).views,
    tryUpstream: (name, storePathHash) =>
      ask(Trial, "POST", `${upstreamPath(name)}/test`, { storePathHash }),
    viewUpstreams: (view) => ask(ViewUpstreamsAnswer, "GET", viewPath(view)),
    setViewUpstreams: (view, upstreams) =>
      ask(ViewUpstreamsAnswer, "PUT", viewPath(view), { upstreams }),
  };
}

function upstreamPath(name: string): string {
  return `upstreams/${encodeURIComponent(name)}`;
}

function viewPath(view: string): string {
  return `views/${requireViewName(view)}/upstreams`;
}
