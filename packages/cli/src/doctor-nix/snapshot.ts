import type { CacheConfig, ViewUpstreams } from "@glorious/cache-client";
import type { NarInfo } from "@glorious/nix-store";

import type { Answer } from "../doctor/answer.ts";
import type { NetrcFacts } from "../doctor/netrc-facts.ts";
import type { NetworkFacts } from "../doctor/network-facts.ts";
import type { Probe } from "../doctor/probe.ts";
import type { NixSettings } from "./nix-settings.ts";

/** Everything the checks look at, gathered once. Tokens are in it; findings must not repeat them. */
export interface Snapshot {
  readonly nowMs: number;
  readonly target: Target;
  readonly user: UserFacts;
  readonly nix: NixFacts;
  readonly netrc: NetrcFacts;
  readonly network: NetworkFacts;
  readonly server: ServerFacts;
  readonly path: PathFacts;
}

/** What is examined. */
export interface Target {
  /** The server's address, with a trailing slash. */
  readonly server: string;
  readonly view: string;
  /** What Nix has to read from: as the server says, else the view below the server's address. */
  readonly substituter: string;
  /** ` --server URL` when it was named, so that remedies mean the same server. */
  readonly serverFlag: string;
}

export interface UserFacts {
  readonly id: number | undefined;
  readonly name: string;
  readonly groups: readonly string[];
}

/** What Nix says of itself. */
export interface NixFacts {
  readonly command: string;
  /** Such as `2.26.3`. */
  readonly version: Probe<string>;
  /** In force for this user. */
  readonly settings: Probe<NixSettings>;
  /** In force without any file or variable of the user's: what a daemon goes by. */
  readonly systemSettings: Probe<NixSettings>;
  readonly store: Probe<StoreFacts>;
  /** The folder in the names of store paths. */
  readonly storeDir: string;
}

/** What `nix store info` says. */
export interface StoreFacts {
  /** Such as `local`, `daemon`, `unix:///…`. */
  readonly url: string;
  /** The version of who manages the store: the daemon's, where there is one. */
  readonly version: string | undefined;
  /** Whether the daemon trusts this user; older versions do not tell. */
  readonly isTrusted: boolean | undefined;
}

export interface ServerFacts {
  /**
   * Whose token the cache was asked with: the one Nix sends, or the user's own because the netrc file
   * is closed to the user and only a daemon reads it.
   */
  readonly askedAs: "nix" | "user";
  /** GET nix-cache-info, as Nix asks. */
  readonly cacheInfo: Probe<Answer>;
  /** The view's configuration, asked with the token that works. */
  readonly config: Probe<ViewFacts>;
  readonly readiness: Probe<Answer>;
  /** The priorities of all substituters, ours among them, by address. */
  readonly priorities: ReadonlyMap<string, Probe<number>>;
}

export interface ViewFacts {
  readonly kind: "flywheel" | "attic";
  readonly config: CacheConfig;
  /** What the view falls back to; `undefined` from a server that has no such thing. */
  readonly upstreams: ViewUpstreams | undefined;
}

/** What one store path of the view looks like from here. */
export interface PathFacts {
  /** The user named it; otherwise it was picked among what is here anyway. */
  readonly isNamed: boolean;
  readonly storePath: Probe<string>;
  readonly narInfo: Probe<NarInfo>;
  readonly nar: Probe<NarFacts>;
  /** What Nix remembers of the cache and the path. */
  readonly memory: Probe<NarInfoMemory>;
  /** What Nix itself says when it verifies the path in the cache. */
  readonly verify: Probe<VerifyFacts>;
}

/** A NAR as it came over the wire. Hashes are SHA-256 in hex. */
export interface NarFacts {
  readonly url: string;
  readonly status: number;
  /** The server's words when the status is no success. */
  readonly refusal: string | undefined;
  readonly fileSize: number;
  readonly fileHash: string;
  /** Why the transfer ended early. */
  readonly transferProblem: string | undefined;
  /** The NAR within; `undefined` for compressions that only Nix reads. */
  readonly contents:
    | { readonly narSize: number; readonly narHash: string }
    | { readonly problem: string }
    | undefined;
}

/** Nix's disk cache of narinfos. */
export interface NarInfoMemory {
  readonly file: string;
  /** Paths it takes as absent from this cache, still in force. */
  readonly absentPaths: number;
  readonly path:
    | { readonly isPresent: false; readonly atMs: number }
    | {
        readonly isPresent: true;
        readonly atMs: number;
        readonly narHash: string;
        readonly signatures: readonly string[];
      }
    | undefined;
}

/** A run of `nix store verify`. */
export interface VerifyFacts {
  readonly exitCode: number;
  /** Nix's own words. */
  readonly said: string;
}
