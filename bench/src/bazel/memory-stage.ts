import { atMost, mib, type Row } from "../report.ts";
import { getActionCase, type Population, readCase, writeCase } from "./cases.ts";
import { residentDuring } from "./service-stage.ts";
import type { OurServer } from "./subjects.ts";

/** Memory under 256 streams of four kinds at once. */
export async function memoryRows(
  server: OurServer,
  population: Population,
  options: { readonly quick: boolean; readonly measureMs: number },
): Promise<Row[]> {
  const streams = { connections: 8, depth: 8 };
  const bytes = await residentDuring(
    server.process.pid,
    server.subject,
    [
      { ...readCase(population, "1 MiB", "plain", "uniform", 8), ...streams },
      { ...writeCase("1 MiB", "plain", options.quick ? 64 : 512, 8), ...streams },
      { ...readCase(population, "4 KiB", "plain", "uniform"), ...streams },
      { ...getActionCase(population, "uniform"), ...streams },
    ],
    options.measureMs,
  );
  return [
    {
      group: "Start-up and memory",
      what: "resident at most under 256 concurrent streams: 64 each of 1 MiB reads, 1 MiB writes, 4 KiB reads, GetActionResult; after all of the calls above",
      ours: mib(bytes),
      reference: "",
      ratio: undefined,
      goal: atMost(400, Math.round(bytes / 2 ** 20), "MiB"),
      peers: {},
    },
  ];
}
