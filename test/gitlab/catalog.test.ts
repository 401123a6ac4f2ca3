import { readFile } from "node:fs/promises";
import path from "node:path";

import type { CommandResult } from "@glorious/testkit";
import { describe, expect, test } from "vitest";

import { createCatalogPipeline } from "./pipeline.ts";

const PIPELINE = new URL("../../gitlab/.gitlab-ci.yml", import.meta.url);
const NODE = path.dirname(process.execPath);

/** Runs the pipeline of the catalog's project as a branch's, or a tag's. */
async function runCatalog(
  variables: Readonly<Record<string, string>>,
  change: (pipeline: string) => string = (pipeline) => pipeline,
): Promise<CommandResult> {
  const text = change(await readFile(PIPELINE, "utf8"));
  await using project = await createCatalogPipeline({}, { ".gitlab-ci.yml": text });
  // Without a proxy or a resolver of anybody's: the server that it names is nowhere.
  const env = { PATH: `${NODE}:/usr/bin:/bin`, HOME: project.directory };
  return await project.run([], { env, variables });
}

/** Its jobs, by how they ended. */
const endsOf = ({ stdout }: CommandResult): string[] =>
  [...stdout.matchAll(/^ (PASS|FAIL) +(\S+)/gm)].map(([, end, job]) => `${job} ${end}`);
const saidBy = ({ stdout, stderr }: CommandResult): string => `${stdout}${stderr}`;

describe("the pipeline of the catalog's project", () => {
  test("tries the components of its own commit, without a server, and releases nothing of a branch", async () => {
    const pipeline = await runCatalog({});

    expect(pipeline.status, saidBy(pipeline)).toBe(0);
    expect(endsOf(pipeline)).toEqual(["check PASS"]);
    expect(saidBy(pipeline)).toMatch(/could not be fetched from the server.*: the job goes on/);
  });

  test.each([
    ["1.2.3", ["check PASS", "release PASS"]],
    ["1.2.3-rc.1", ["check PASS", "release PASS"]],
    ["v1.2.3", ["check PASS"]],
    ["1.2", ["check PASS"]],
  ])("of the tag %s ends like this: %j", async (tag, ends) => {
    const pipeline = await runCatalog({ CI_COMMIT_TAG: tag });

    expect(pipeline.status, saidBy(pipeline)).toBe(0);
    expect(endsOf(pipeline)).toEqual(ends);
  });

  test.each([
    ["a component that is not there", "/bazel@", "/bazil@", /templates\/bazil\.yml/],
    [
      "an input's value that is none",
      "{ audience: ",
      "{ audience: a b",
      /`audience` input: .* does not/,
    ],
    ["a release that GitLab's schema does not have", "tag_name:", "tag:", /'tag_name'/],
  ])("%s keeps it from coming into being", async (_, given, instead, message) => {
    const pipeline = await runCatalog({ CI_COMMIT_TAG: "1.2.3" }, (text) =>
      text.replace(given, instead),
    );

    expect(endsOf(pipeline)).toEqual([]);
    expect(saidBy(pipeline)).toMatch(message);
  });
});
