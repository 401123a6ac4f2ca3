import { readdir, readFile } from "node:fs/promises";
import path from "node:path";

/** The parts of V8's `.cpuprofile` that are read here. */
interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: {
      readonly functionName: string;
      readonly url: string;
      readonly lineNumber: number;
    };
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

/** What V8 calls the time in which no JavaScript ran: nothing was to do, or it waited in a system call. */
const NOT_RUNNING = new Set(["(idle)", "(root)"]);
const SHOWN = 25;
/** A thread that did less than this share of the time is named and no more. */
const LEAST_SHARE = 0.1;

/** Says, for each thread's profile in a folder, which functions the time was spent in themselves. */
export async function summarizeProfiles(directory: string): Promise<string> {
  const files = (await readdir(directory)).filter((name) => name.endsWith(".cpuprofile"));
  const texts = await Promise.all(
    files.map(async (name) => {
      const file = path.join(directory, name);
      return `${file}\n${summarize(JSON.parse(await readFile(file, "utf8")) as CpuProfile)}`;
    }),
  );
  return texts.join("\n");
}

function summarize({ nodes, samples, timeDeltas }: CpuProfile): string {
  const names = new Map(
    nodes.map(({ id, callFrame: { functionName, url, lineNumber } }) => [
      id,
      `${functionName || "(anonymous)"} ${shorten(url)}${url === "" ? "" : `:${lineNumber + 1}`}`.trim(),
    ]),
  );
  const selfMicros = new Map<string, number>();
  let busyMicros = 0;
  let allMicros = 0;
  for (const [place, id] of samples.entries()) {
    const name = names.get(id) ?? "(unknown)";
    const micros = timeDeltas[place] ?? 0;
    allMicros += micros;
    if (NOT_RUNNING.has(name)) continue;
    busyMicros += micros;
    selfMicros.set(name, (selfMicros.get(name) ?? 0) + micros);
  }
  const [busy, all] = [busyMicros, allMicros].map((micros) => (micros / 1e6).toFixed(1));
  const head = `  busy ${busy} s of ${all} s`;
  if (busyMicros < allMicros * LEAST_SHARE) return head;
  const lines = [...selfMicros]
    .sort(([, a], [, b]) => b - a)
    .slice(0, SHOWN)
    .map(([name, micros]) => `  ${((100 * micros) / busyMicros).toFixed(1).padStart(5)} % ${name}`);
  return [`${head}; of the busy time:`, ...lines].join("\n");
}

/** The file from its package on. */
function shorten(url: string): string {
  return url.replace(/^.*\/(?:packages|node_modules)\//, "");
}
