import { readFile } from "node:fs/promises";
import { performance } from "node:perf_hooks";

import { encodeCallHeaders, encodeGrpcBody } from "./load/frames.ts";
import { replay } from "./load/replay.ts";
import { RingBuilder } from "./load/ring.ts";
import { digest, getActionResult, METHODS } from "./messages.ts";
import { type Hashes, isMissing, sizeOf } from "./population.ts";
import { type OurServer, startOurs, type Subject } from "./subjects.ts";

export interface StartUp {
  readonly server: OurServer;
  /** From the start of the process to its word that it is ready. */
  readonly readySeconds: number;
  /** The same until both tenants had an ActionResult. */
  readonly answeredSeconds: number;
}

/** Starts our server over data that is there, and asks each tenant for something. */
export async function timeStartUp(directory: string, actions: Hashes): Promise<StartUp> {
  const startedAtMs = performance.now();
  const server = await startOurs(directory);
  const readySeconds = (performance.now() - startedAtMs) / 1000;
  await askOnce(server.subject, actions);
  return { server, readySeconds, answeredSeconds: (performance.now() - startedAtMs) / 1000 };
}

async function askOnce(subject: Subject, actions: Hashes): Promise<void> {
  const builder = new RingBuilder();
  for (const parity of [0, 1] as const) {
    let id: number = parity;
    while (isMissing(id)) id += 2;
    const { instance, token } = subject.tenants[parity];
    builder.addCall(
      encodeCallHeaders(METHODS.getActionResult, "127.0.0.1", token),
      encodeGrpcBody([getActionResult(instance, digest(actions.of(id), sizeOf("action")))]),
      { minBytes: 5, maxBytes: Infinity },
    );
  }
  const rings = [builder.build()];
  const result = await replay(subject.target, {
    protocol: "h2c",
    rings,
    depth: 2,
    measureMs: undefined,
  });
  if (result.wrong > 0) throw new Error(`after its start: ${result.firstWrong}`);
}

export async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/^VmRSS:\s*(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
}
