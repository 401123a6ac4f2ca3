import { join } from "node:path";

import type { Logger } from "@glorious/core";

import type { Credentials } from "../credentials.ts";
import type { NixUpstream } from "../nix-face/nix-cache.ts";
import type { NixFace } from "../nix-face/start-nix-face.ts";
import type { SessionFiles } from "../session/session-files.ts";
import type { AgentSettings, FaceAddresses, ViewAddress } from "../session/session-state.ts";
import type { Statistics } from "../statistics.ts";
import { startBazelFace, startNixFace } from "./load-faces.ts";

/** What faces are started with. */
export interface FacesOptions {
  readonly files: SessionFiles;
  readonly credentials: Credentials;
  readonly statistics: Statistics;
  readonly logger: Logger;
}

/** The loopback servers of an agent. */
export interface Faces extends AsyncDisposable {
  /** Starts those that the settings name and that do not run yet, and tells the others what they did not know. */
  start(settings: AgentSettings): Promise<void>;
  /** Does, once the job's start is over, what the first questions would wait for. */
  prepare(): void;
  addresses(): FaceAddresses;
}

const DEFAULT_SPOOL_BYTES = 256 * 2 ** 20;

/** Starts nothing by itself. */
export function createFaces({ files, credentials, statistics, logger }: FacesOptions): Faces {
  const running: AsyncDisposable[] = [];
  let nixFace: NixFace | undefined;
  let isNixOpen = false;
  let addresses: FaceAddresses = {};
  return {
    async start({ secret, server, view, address, nix, bazel }) {
      const shared = { secret, credentials, statistics, logger };
      if (nix !== undefined && nixFace !== undefined && address !== undefined && !isNixOpen) {
        nixFace.open(toUpstream({ ...address, view }), nix.extra.map(toUpstream));
        isNixOpen = true;
      }
      if (nix !== undefined && addresses.nix === undefined) {
        const { extra, prefetch, spoolBytes, largeNars } = nix;
        const spool = spoolBytes ?? DEFAULT_SPOOL_BYTES;
        const face = await startNixFace({
          ...shared,
          upstream: address === undefined ? undefined : toUpstream({ ...address, view }),
          extra: extra.map(toUpstream),
          spoolDirectory: files.spool,
          spoolBytes: spool,
          prefetch,
          ...(largeNars && { prefetchMaxBytes: Math.floor(spool / 2) }),
        });
        running.push(face);
        nixFace = face;
        isNixOpen = address !== undefined;
        addresses = { ...addresses, nix: { url: face.url } };
      }
      if (bazel !== undefined && addresses.bazel === undefined) {
        const face = await startBazelFace({
          ...shared,
          upstream: {
            grpc: new URL(bazel.grpc),
            http: new URL(server),
            instanceName: bazel.instanceName,
          },
          spoolDirectory: join(files.spool, "bazel"),
          // A build that downloads everything at once needs nothing kept for later.
          ...(bazel.downloadsAll && { spoolBytes: 0 }),
        });
        running.push(face);
        addresses = { ...addresses, bazel: { grpc: face.grpc, http: face.http } };
      }
    },
    prepare: () => nixFace?.prepare(),
    addresses: () => addresses,
    async [Symbol.asyncDispose]() {
      await Promise.all(running.map((face) => face[Symbol.asyncDispose]()));
    },
  };
}

function toUpstream({ api, ...address }: ViewAddress): NixUpstream {
  return { ...address, api: api === undefined ? undefined : new URL(api) };
}
