import { parseArgs } from "node:util";

import { AGENT_STAGES, type AgentStage, benchAgent } from "./agent/bench-agent.ts";
import { benchBazel, type BazelStage, BAZEL_STAGES } from "./bazel/bench-bazel.ts";
import { benchHooks } from "./hooks/bench-hooks.ts";
import { benchNix, STAGES, type Stage } from "./nix/bench-nix.ts";
import { benchNegatives } from "./trust/bench-negatives.ts";
import { benchTrust } from "./trust/bench-trust.ts";
import { benchUpstream } from "./upstream/bench-upstream.ts";

const USAGE = `usage: pnpm bench nix [--quick] [--only STAGE,…] [--rounds N] [--json FILE] [--peer NAME=URL]…
  --quick         about 60 paths and 150 MiB, fewer rounds; docs/benchmarks.md stays as it is
  --only          of ${STAGES.join(", ")}
  --rounds        measurements of each subject, taken in turn
  --json          where the figures go; default in the user's cache folder
  --peer          a binary cache that serves the corpus already, beside ours and nginx; may be given again
  --peer-token    NAME=FILE, the token of a peer that wants one
  --print-corpus  prints the corpus's top path and ends: what to push to a peer

usage: pnpm bench bazel [--quick] [--only STAGE,…] [--calls REGEX] [--ours-only] [--profile DIR] [--data DIR]
                        [--rounds N] [--json FILE] [--bazel-remote HOST:PORT]
  --quick         an index of 50 000 blobs
  --only          of ${BAZEL_STAGES.join(", ")}
  --calls         only calls whose name in the table matches, of the stages grpc and http, such as "^Read 4 KiB"
  --ours-only     without casd, nginx and bazel-remote
  --profile       a processor profile of our server for each call, and where its time went; the figures are not kept
  --data          where the filled index is kept; default in the temporary folder. A copy of ours/ and ours.filled
                  there makes a folder of one's own
  --bazel-remote  the gRPC address of a bazel-remote to measure too; it is filled first

usage: pnpm bench trust [--quick] [--rounds N]
  what the trust gate costs, on both planes, and how fast identities are exchanged

usage: pnpm bench negatives [--quick] [--rounds N]
  whether a tenant can tell by time what another one has

usage: pnpm bench agent [--quick] [--only STAGE,…] [--rounds N]
  what a job's agent brings Nix: far from the server, and on a fast link
  --quick         one round, a smaller closure on the fast link; docs/benchmarks.md stays as it is
  --only          of ${AGENT_STAGES.join(", ")}

usage: pnpm bench upstream [--quick] [--rounds N]
  what reading through an upstream costs, and what it brings a job with an agent

usage: pnpm bench hooks [--quick] [--rounds N]
  what the hooks of a runner add to a job, the server up, down and silent`;

function readPairs(values: readonly string[] | undefined): Map<string, string> {
  return new Map(
    (values ?? []).map((value) => {
      const at = value.indexOf("=");
      if (at < 1) throw new Error(`${value} is not NAME=VALUE`);
      return [value.slice(0, at), value.slice(at + 1)];
    }),
  );
}

function selectStages<Name extends string>(
  value: string | undefined,
  all: readonly Name[],
): Name[] {
  const only = value?.split(",") ?? [...all];
  const stages = all.filter((stage) => only.includes(stage));
  if (stages.length !== only.length) throw new Error(`--only takes ${all.join(", ")}`);
  return stages;
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
      "bazel-remote": { type: "string" },
      calls: { type: "string" },
      "ours-only": { type: "boolean", default: false },
      profile: { type: "string" },
      data: { type: "string" },
      "print-corpus": { type: "boolean", default: false },
    },
  });
  const [plane] = positionals;
  if (
    positionals.length !== 1 ||
    !["nix", "bazel", "trust", "agent", "hooks", "upstream", "negatives"].includes(plane ?? "")
  ) {
    process.stderr.write(`${USAGE}\n`);
    return 2;
  }
  const common = {
    quick: values.quick,
    rounds: values.rounds === undefined ? undefined : Number(values.rounds),
    jsonFile: values.json,
  };
  if (plane === "trust") {
    await benchTrust(common);
    return 0;
  }
  if (plane === "negatives") {
    await benchNegatives(common);
    return 0;
  }
  if (plane === "upstream") {
    await benchUpstream(common);
    return 0;
  }
  if (plane === "hooks") {
    await benchHooks(common);
    return 0;
  }
  if (plane === "agent") {
    await benchAgent({ ...common, stages: selectStages<AgentStage>(values.only, AGENT_STAGES) });
    return 0;
  }
  if (plane === "bazel") {
    const { calls, profile } = values;
    const callsOnly = calls === undefined && profile === undefined ? undefined : "grpc,http";
    await benchBazel({
      ...common,
      stages: selectStages<BazelStage>(values.only ?? callsOnly, BAZEL_STAGES),
      calls: calls === undefined ? undefined : new RegExp(calls),
      oursOnly: values["ours-only"],
      profileDirectory: profile,
      dataDirectory: values.data,
      bazelRemote: values["bazel-remote"],
    });
    return 0;
  }
  const stages = selectStages<Stage>(values.only, STAGES);
  const tokens = readPairs(values["peer-token"]);
  await benchNix({
    ...common,
    stages,
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
