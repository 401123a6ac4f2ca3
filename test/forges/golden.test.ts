import {
  createBazelWorkspace,
  createNixSandbox,
  findBazelVersions,
  findNixVersions,
  TEST_FORGES,
} from "@glorious/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { EVENT_NAMES, TENANTS } from "./events.ts";
import { type JobMachine, type OpenedJob, openJob } from "./front-doors.ts";
import { type RecordingWorld, startRecordingWorld } from "./recording-server.ts";

const nix = findNixVersions().at(-1);
const bazel = findBazelVersions().at(-1);

describe.skipIf(nix === undefined || bazel === undefined)("the same event on each forge", () => {
  const opened = new AsyncDisposableStack();
  let recording: RecordingWorld;
  let machine: JobMachine;
  beforeAll(async () => {
    if (nix === undefined || bazel === undefined) throw new Error("there is no Nix or no Bazel");
    recording = opened.use(await startRecordingWorld(TENANTS));
    machine = {
      sandbox: opened.use(await createNixSandbox(nix)),
      workspace: opened.use(await createBazelWorkspace(bazel)),
    };
  });
  afterAll(() => opened.disposeAsync());

  /** One text for what a job asked, what it may do, and what lies in its session. */
  function describeJob({ exchanges, files }: OpenedJob): string {
    const calls = exchanges.map(({ request: { token, ...wish }, answer: { grant } }) => {
      // Its sentence and its rule name the forge's own words.
      const { reason: _, rule: __, ...rights } = grant;
      return JSON.stringify(
        { token: typeof token, ...wish, grant: rights },
        undefined,
        2,
      ).replaceAll(/acme\+main_(pr-\d+|ref-[0-9a-f]+)/g, "acme+main_<overlay>");
    });
    return `== exchange\n${calls.join("\n")}\n${files}\n`;
  }

  test.for(EVENT_NAMES)("%s: the same request for rights, and the same files", async (event) => {
    for (const forge of TEST_FORGES) {
      const job = await openJob(forge, event, { recording, machine });

      expect(job.exchanges, forge).toHaveLength(1);
      await expect(describeJob(job)).toMatchFileSnapshot(
        `golden/${event.replaceAll(" ", "-")}.txt`,
      );
    }
  });
});
