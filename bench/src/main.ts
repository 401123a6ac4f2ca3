import { parseArgs } from "node:util";

import { benchNix, STAGES, type Stage } from "./nix/bench-nix.ts";

const USAGE = `usage: pnpm bench nix [--quick] [--only STAGE,…] [--rounds N] [--json FILE] [--peer NAME=URL]…
  --quick         about 60 paths and 150 MiB, fewer rounds; docs/benchmarks.md stays as it is
  --only          of ${STAGES.join(", ")}
  --rounds        measurements of each subject, taken in turn
  --json          where the figures go; default in the user's cache folder
  --peer          a binary cache that serves the corpus already, beside ours and nginx; may be given again
  --peer-token    NAME=FILE, the token of a peer that wants one
  --print-corpus  prints the corpus's top path and ends: what to push to a peer`;

function readPairs(values: readonly string[] | undefined): Map<string, string> {
  return new Map(
    (values ?? []).map((value) => {
      const at = value.indexOf("=");
      if (at < 1) throw new Error(`${value} is not NAME=VALUE`);
      return [value.slice(0, at), value.slice(at + 1)];
    }),
  );
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      quick: { type: "boolean", default: false },
      only: { type: "string" },
      rounds: { type: "string" },
      json: { type: "string" },
      peer: { type: "string", multiple: true },
      "peer-token": { type: "string", multiple: true },
      "print-corpus": { type: "boolean", default: false },
    },
  });
  if (positionals.length !== 1 || positionals[0] !== "nix") {
    process.stderr.write(`${USAGE}\n`);
    return 2;
  }
  const only = values.only?.split(",") ?? [...STAGES];
  const stages = STAGES.filter((stage): stage is Stage => only.includes(stage));
  if (stages.length !== only.length) throw new Error(`--only takes ${STAGES.join(", ")}`);
  const tokens = readPairs(values["peer-token"]);
  await benchNix({
    quick: values.quick,
    stages,
    rounds: values.rounds === undefined ? undefined : Number(values.rounds),
    jsonFile: values.json,
    printsCorpus: values["print-corpus"],
    peers: [...readPairs(values.peer)].map(([name, url]) => ({
      name,
      url: url.replace(/\/$/, ""),
      tokenFile: tokens.get(name),
    })),
  });
  return 0;
}

process.exitCode = await main();
