import { createHash } from "node:crypto";

import { encodeNix32 } from "@glorious/nix-store";
import type { RunningFlywheel } from "@glorious/testkit";

import { encodeCallHeaders, encodeGrpcBody } from "../bazel/load/frames.ts";
import { replay, type Target } from "../bazel/load/replay.ts";
import { RingBuilder } from "../bazel/load/ring.ts";
import {
  actionResult,
  batchUpdate,
  blobOf,
  METHODS,
  updateActionResult,
} from "../bazel/messages.ts";

/** What every view of the bench holds. */
export const PATHS = 500;
export const ACTIONS = 500;

/** The store path hash of a made-up path. */
export function storePathHash(number: number): string {
  const digest = createHash("sha256").update(`path ${number}`).digest();
  return encodeNix32(digest.subarray(0, 20));
}

/** Makes paths that share one small NAR visible in a view. */
export async function fillPaths(
  server: RunningFlywheel,
  view: string,
  token: string,
): Promise<void> {
  const nar = narOf("one file for all");
  const narHash = createHash("sha256").update(nar).digest("hex");
  const api = `${server.url}/_flywheel/v1/views/${view}`;
  const headers = { authorization: `Bearer ${token}` };
  const query = `size=${nar.length}&compression=none`;
  await send(`${api}/nars/${narHash}?${query}`, { method: "PUT", headers, body: nar });
  const paths = Array.from({ length: PATHS }, (_, number) => ({
    storePath: `/nix/store/${storePathHash(number)}-bench-${number}`,
    narHash,
    narSize: nar.length,
    references: [],
    signatures: [],
  }));
  await send(`${api}/closures`, {
    method: "POST",
    headers: { ...headers, "content-type": "application/json" },
    body: JSON.stringify({ paths, externalReferences: [] }),
  });
}

async function send(url: string, init: RequestInit): Promise<void> {
  const answer = await fetch(url, init);
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}: ${await answer.text()}`);
}

/** A NAR of one regular file. */
function narOf(contents: string): Buffer {
  const words = ["nix-archive-1", "(", "type", "regular", "contents", contents, ")"];
  return Buffer.concat(
    words.map((word) => {
      const bytes = Buffer.alloc(8 + Math.ceil(word.length / 8) * 8);
      bytes.writeUInt32LE(word.length);
      bytes.write(word, 8, "latin1");
      return bytes;
    }),
  );
}

/** Stores the results of actions, and the files they name, in a view. */
export async function fillActions(target: Target, instance: string, token: string): Promise<void> {
  const file = blobOf("small", 0);
  const calls: Array<readonly [string, Buffer]> = [
    [METHODS.batchUpdate, batchUpdate(instance, [file])],
    ...Array.from({ length: ACTIONS }, (_, id): readonly [string, Buffer] => {
      const result = actionResult(id, [file.digest, file.digest]);
      const request = updateActionResult(instance, blobOf("action", id).digest, result);
      return [METHODS.updateActionResult, request];
    }),
  ];
  for (const part of [calls.slice(0, 1), calls.slice(1)]) {
    const ring = new RingBuilder();
    for (const [method, request] of part) {
      const headers = encodeCallHeaders(method, "127.0.0.1", token);
      ring.addCall(headers, encodeGrpcBody([request]), { minBytes: 5, maxBytes: Infinity });
    }
    const result = await replay(target, {
      protocol: "h2c",
      rings: [ring.build()],
      depth: 16,
      measureMs: undefined,
    });
    if (result.wrong > 0) throw new Error(`filling ${instance}: ${result.firstWrong}`);
  }
}
