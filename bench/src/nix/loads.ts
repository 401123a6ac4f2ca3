import { writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { output, time } from "../command.ts";
import type { Tools } from "../tools.ts";
import type { Contents, Endpoint } from "./endpoint.ts";

/** One pull of all NARs. */
export interface Pull {
  readonly seconds: number;
  /** Processor time of the client: near the seconds, one thread of it is the limit. */
  readonly clientCpuSeconds: number;
  readonly bytes: number;
}

/**
 * Reads NARs with one curl process that throws the bodies away.
 *
 * @throws {Error} when an answer is not 200, or has another size than its narinfo says.
 */
export async function pullNars(
  endpoint: Endpoint,
  nars: Contents["nars"],
  options: { readonly connections: number; readonly directory: string },
): Promise<Pull> {
  const { connections, directory } = options;
  const { origin } = new URL(endpoint.url);
  const lines = [
    "silent",
    "show-error",
    'write-out = "%{http_code} %{size_download} %{url}\\n"',
    ...(connections === 1
      ? []
      : ["parallel", `parallel-max = ${connections}`, "parallel-immediate"]),
    ...(endpoint.token === undefined ? [] : [`header = "Authorization: Bearer ${endpoint.token}"`]),
    ...(endpoint.caFile === undefined ? [] : [`cacert = ${JSON.stringify(endpoint.caFile)}`]),
    ...nars.flatMap((nar) => [`url = "${origin}${nar.path}"`, 'output = "/dev/null"']),
  ];
  const file = path.join(directory, "curl.conf");
  await writeFile(file, `${lines.join("\n")}\n`, { mode: 0o600 });
  const result = await time("curl", ["--config", file]);
  const answers = result.stdout
    .trim()
    .split("\n")
    .map((line) => line.split(" "));
  const wanted = new Map(nars.map((nar) => [origin + nar.path, nar.sizeBytes]));
  let bytes = 0;
  for (const [status, size, url = ""] of answers) {
    const expected = wanted.get(url);
    if (status !== "200" || (expected !== undefined && Number(size) !== expected)) {
      throw new Error(`${endpoint.name} answered ${status} with ${size} bytes for ${url}`);
    }
    bytes += Number(size);
  }
  if (answers.length !== nars.length)
    throw new Error(`${endpoint.name} gave ${answers.length} answers for ${nars.length} NARs`);
  return { seconds: result.seconds, clientCpuSeconds: result.cpuSeconds, bytes };
}

/** Small answers in a stretch of time. */
export interface Rate {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

const SCRIPT = fileURLToPath(new URL("narinfo.lua", import.meta.url));

/** Asks for all narinfos round and round with one thread of wrk. @throws {Error} for any answer but 200. */
export async function askNarInfos(
  tools: Tools,
  endpoint: Endpoint,
  narInfos: readonly string[],
  options: { readonly connections: number; readonly seconds: number; readonly directory: string },
): Promise<Rate> {
  const { connections, seconds, directory } = options;
  const file = path.join(directory, "narinfo.paths");
  await writeFile(file, `${narInfos.join("\n")}\n`);
  const text = await output(
    tools.wrk,
    ["-t1", `-c${connections}`, `-d${seconds}s`, "-s", SCRIPT, endpoint.url],
    {
      env: {
        ...tools.env,
        BENCH_PATHS: file,
        BENCH_AUTHORIZATION: endpoint.token === undefined ? "" : `Bearer ${endpoint.token}`,
      },
    },
  );
  const match = /RESULT (\d+) (\d+) (\d+) ([\d.]+) ([\d.]+)/.exec(text);
  const [requests = 0, micros = 1, errors = 0, p50 = 0, p99 = 0] = (match ?? [])
    .slice(1)
    .map(Number);
  if (match === null || errors > 0) throw new Error(`wrk on ${endpoint.name}: ${text.slice(-600)}`);
  return { perSecond: requests / (micros / 1e6), p50Ms: p50 / 1000, p99Ms: p99 / 1000 };
}
