import { writeFile } from "node:fs/promises";
import path from "node:path";

import { output } from "../command.ts";
import { atLeast, type Row } from "../report.ts";
import type { Tools } from "../tools.ts";
import { formatRate } from "./bazel-report.ts";
import {
  findMissingCase,
  getActionCase,
  type GrpcCase,
  type Population,
  readCase,
} from "./cases.ts";
import { playOurs } from "./grpc-stage.ts";
import { encodeCallHeaders, encodeGrpcBody } from "./load/frames.ts";
import { replay, type Target } from "./load/replay.ts";
import { RingBuilder } from "./load/ring.ts";
import { digest, getActionResult, METHODS } from "./messages.ts";
import { type Hashes, isMissing, sizeOf } from "./population.ts";
import { startConstant, type Subject } from "./subjects.ts";

const CONNECTIONS = 8;
const DEPTH = 16;
const GROUP = "The load generator";

export interface ClientCheck {
  readonly population: Population;
  readonly ours: Subject;
  readonly peers: readonly Subject[];
  /** What our server reached in this run, to know its highest rate of a call. */
  readonly rows: readonly Row[];
  readonly tools: Pick<Tools, "env"> & { readonly h2load: string };
  readonly work: string;
  readonly measureMs: number;
}

/** Whether the client can be what bounds the figures: it against a constant answer, and beside h2load. */
export async function clientRows(check: ClientCheck): Promise<Row[]> {
  const { population, ours, peers, tools, work, measureMs } = check;
  const oneKeyRows: Row[] = [];
  let oneKeyOfOurs = 0;
  for (const subject of [ours, ...peers]) {
    const h2load = { command: tools.h2load, env: tools.env };
    const options = { measureMs, directory: work };
    const oneKey = await askOneKey(h2load, subject, population.actions, options);
    if (subject === ours) oneKeyOfOurs = oneKey.replayer;
    oneKeyRows.push({
      group: GROUP,
      what: `GetActionResult of one key from ${subject.name}: the replayer; reference: h2load`,
      ours: `${Math.round(oneKey.replayer)}/s`,
      reference: `${Math.round(oneKey.h2load)}/s`,
      ratio: oneKey.replayer / oneKey.h2load,
      peers: {},
    });
  }
  const rows: Row[] = [];
  for (const [each, known] of [
    [getActionCase(population, "uniform"), oneKeyOfOurs],
    [findMissingCase(population, 1, "uniform"), 0],
    [findMissingCase(population, 1000, "uniform"), 0],
    [readCase(population, "4 KiB", "plain", "uniform"), 0],
  ] as const) {
    rows.push(await compareWithConstant(each, known, check));
  }
  return [...rows, ...oneKeyRows];
}

async function compareWithConstant(
  grpcCase: GrpcCase,
  knownRate: number,
  { ours, rows, measureMs }: ClientCheck,
): Promise<Row> {
  const served = await playOurs(grpcCase, ours, { rounds: 1, measureMs });
  const answerBytes = Math.round(served.bodyBytesPerSecond / served.perSecond);
  const call = grpcCase.name.replace(/, uniform$/, "");
  const highest = Math.max(
    knownRate,
    served.perSecond,
    ...rows
      .filter(({ what }) => what.startsWith(`${call},`))
      .map(({ values }) => values?.["ours"]?.[0] ?? 0),
  );
  await using constant = await startConstant(answerBytes);
  const rings = grpcCase.lay(ours).map((ring) => ({
    ...ring,
    minBytes: ring.minBytes.map(() => 0),
    maxBytes: ring.maxBytes.map(() => Infinity),
  }));
  const { depth } = grpcCase;
  const client = await replay(constant, { protocol: "h2c", rings, depth, measureMs });
  const ratio = client.perSecond / highest;
  return {
    group: GROUP,
    what: `${call}: the replayer with a constant answer of ${answerBytes} bytes; reference: our server's highest rate of this call, of however many keys`,
    ours: formatRate(client),
    reference: `${Math.round(highest)}/s`,
    ratio,
    goal: atLeast(5, ratio, "×"),
    peers: {},
  };
}

/** One ActionResult over and over: the replayer beside h2load. */
async function askOneKey(
  h2load: { readonly command: string; readonly env: Readonly<Record<string, string | undefined>> },
  subject: Subject,
  actions: Hashes,
  options: { readonly measureMs: number; readonly directory: string },
): Promise<{ readonly replayer: number; readonly h2load: number }> {
  const [{ instance, token }] = subject.tenants;
  let id = 0;
  while (isMissing(id)) id += 2;
  const body = encodeGrpcBody([
    getActionResult(instance, digest(actions.of(id), sizeOf("action"))),
  ]);
  const rings = Array.from({ length: CONNECTIONS }, () => {
    const builder = new RingBuilder();
    const headers = encodeCallHeaders(METHODS.getActionResult, "127.0.0.1", token);
    for (let call = 0; call < 100; call += 1) {
      builder.addCall(headers, body, { minBytes: 5, maxBytes: Infinity });
    }
    return builder.build();
  });
  const { measureMs } = options;
  const ours = await replay(subject.target, { protocol: "h2c", rings, depth: DEPTH, measureMs });
  const file = path.join(options.directory, "one-key.body");
  await writeFile(file, body);
  return {
    replayer: ours.perSecond,
    h2load: await runH2load(h2load, subject.target, file, token, measureMs),
  };
}

async function runH2load(
  { command, env }: Parameters<typeof askOneKey>[0],
  { host, port }: Target,
  file: string,
  token: string | undefined,
  measureMs: number,
): Promise<number> {
  const headers = ["content-type: application/grpc", "te: trailers"];
  if (token !== undefined) headers.push(`authorization: Bearer ${token}`);
  const text = await output(
    command,
    [
      ...["-c", `${CONNECTIONS}`, "-m", `${DEPTH}`, "-D", `${Math.ceil(measureMs / 1000)}`],
      ...["--warm-up-time=1", "-w", "30", "-W", "30", "-d", file],
      ...headers.flatMap((header) => ["-H", header]),
      `http://${host}:${port}${METHODS.getActionResult}`,
    ],
    { env },
  );
  const rate = /finished in [\d.]+\w+, ([\d.]+) req\/s/.exec(text)?.[1];
  const failed = /(\d+) failed, (\d+) errored/.exec(text);
  if (rate === undefined || Number(failed?.[1]) > 0) throw new Error(`h2load: ${text.slice(-800)}`);
  return Number(rate);
}
