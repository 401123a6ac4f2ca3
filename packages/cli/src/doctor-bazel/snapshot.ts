import type { BazelRelease } from "@glorious/cache-client";

import type { RcReading } from "../bazel-config/rc-file.ts";
import type { Answer } from "../doctor/answer.ts";
import type { NetrcFacts } from "../doctor/netrc-facts.ts";
import type { NetworkFacts } from "../doctor/network-facts.ts";
import type { Probe } from "../doctor/probe.ts";

/** Everything the checks look at, gathered once. Tokens are in it; findings must not repeat them. */
export interface Snapshot {
  readonly nowMs: number;
  readonly target: Target;
  readonly bazel: BazelFacts;
  readonly rc: RcFacts;
  readonly view: Probe<ViewFacts>;
  readonly credential: CredentialFacts;
  readonly network: NetworkFacts;
  readonly faces: FaceFacts;
  readonly trip: TripFacts;
}

/** What is examined. */
export interface Target {
  /** The server's address, with a trailing slash. */
  readonly server: string;
  readonly view: string;
  /** ` --server URL` when it was named, so that remedies mean the same server. */
  readonly serverFlag: string;
  /** The address that is asked: as our rc file has it, else as the server says, else the server's own. */
  readonly remoteCache: string;
  readonly instanceName: string;
  /** Whether our rc file takes results and gives none, although its token may push. */
  readonly isReadOnly: boolean;
  /** Whether our rc file sends blobs as they are, although its Bazel could compress them. */
  readonly isUncompressed: boolean;
}

export interface BazelFacts {
  readonly command: string;
  readonly release: Probe<BazelRelease>;
}

/** What Bazel's rc files say. */
export interface RcFacts {
  /** Where our line goes. */
  readonly userRc: string;
  readonly ownRcPath: string;
  /** Whether our line is in one of the files that Bazel reads. */
  readonly isImported: boolean;
  /** The text of our own file; `undefined`: there is none. */
  readonly ownRc: string | undefined;
  /** What `use bazel` would write into it now, for what it says. */
  readonly wanted: Probe<string>;
  readonly reading: RcReading;
}

/** What the server says of the view. */
export interface ViewFacts {
  readonly isPublic: boolean;
  /** `grpc://…` or `grpcs://…`; neither where Bazel is switched off. */
  readonly grpc: string | undefined;
  /** `http://…/<view>` or `https://…/<view>` */
  readonly http: string | undefined;
}

/** Where Bazel takes its credentials from, and what it finds there. */
export type CredentialFacts =
  /** The header's value, `undefined`: it gives none. Secret. */
  | {
      readonly kind: "helper";
      readonly command: string;
      readonly header: Probe<string | undefined>;
    }
  | { readonly kind: "netrc"; readonly netrc: NetrcFacts; readonly host: string }
  | {
      readonly kind: "option";
      readonly file: string;
      readonly line: number;
      readonly header: string;
    };

/** How the server answers a client with Bazel's credentials. */
export interface FaceFacts {
  /** GetCapabilities of the instance. */
  readonly grpc: Probe<GrpcAnswer>;
  /** GET of an ActionResult that is not there. */
  readonly http: Probe<Answer>;
}

export interface GrpcAnswer {
  /** A status code of gRPC. */
  readonly status: number;
  /** The server's words when it is another than 0. */
  readonly message: string;
  readonly capabilities: CapabilityFacts | undefined;
}

export interface CapabilityFacts {
  readonly hasSha256: boolean;
  readonly hasZstd: boolean;
  readonly mayUpdate: boolean;
}

/** What came of writing something small, and reading it again. */
export interface TripFacts {
  /** A result and a blob that nobody wrote. */
  readonly miss: Probe<true>;
  /** Its size in bytes. */
  readonly blob: Probe<number>;
  readonly actionResult: Probe<true>;
}
