import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import { describe, expect, test } from "vitest";
import { parse } from "yaml";

import { fillIn, readComponent } from "./component-job.ts";

/** The forge's own cache is what a component cannot reach. */
const OF_ACTIONS_ONLY = new Set(["keep-evaluation", "keep-repositories"]);
const TIMES: Readonly<Record<string, string>> = { timeout: "10", "drain-timeout": "240" };
const OF_COMPONENTS_ONLY = ["job-prefix"];

async function actionInputs(
  action: string,
): Promise<Readonly<Record<string, { default?: string }>>> {
  const file = fileURLToPath(new URL(`../../actions/${action}/action.yml`, import.meta.url));
  return (parse(await readFile(file, "utf8")) as { inputs: Record<string, { default?: string }> })
    .inputs;
}

describe.each([
  ["attic", "setup-attic", ".flywheel-nix"],
  ["bazel", "setup-bazel-cache", ".flywheel-bazel"],
] as const)("the component %s", (name, action, job) => {
  test("has the inputs of its action, and may leave all of them out", async () => {
    const { inputs } = await readComponent(name);
    const wanted = Object.keys(await actionInputs(action)).filter(
      (input) => !OF_ACTIONS_ONLY.has(input),
    );

    expect(Object.keys(inputs)).toEqual([...wanted, ...OF_COMPONENTS_ONLY]);
    expect(Object.values(inputs).filter((input) => input.default === undefined)).toEqual([]);
    expect(Object.values(inputs).filter(({ description }) => description.length < 20)).toEqual([]);
  });

  test("has the defaults of its action, but for the times: a job's start waits less, and its end has five minutes", async () => {
    const { inputs } = await readComponent(name);
    for (const [input, { default: wanted = "" }] of Object.entries(await actionInputs(action))) {
      if (OF_ACTIONS_ONLY.has(input) || ["server-url", "audience"].includes(input)) continue;
      const given = String(inputs[input]?.default);
      expect([input, given]).toEqual([input, TIMES[input] ?? wanted]);
    }
  });

  test("hands every input over to the command", async () => {
    const { inputs } = await readComponent(name);
    const { before } = await fillIn(name, {});
    const text = before.slice(before.indexOf("<<'"), before.indexOf("\nEND-OF-INPUTS;"));
    const handed = [...text.matchAll(/^([\w-]+)=/gm)].map(([, input]) => input);

    const elsewhere = new Set(["fail-on-error", ...OF_COMPONENTS_ONLY]);
    const wanted = Object.keys(inputs).filter((input) => !elsewhere.has(input));
    expect(handed).toEqual(wanted);
  });

  test("sets nothing global: it adds one hidden job, under a name that an input makes another", async () => {
    const { content } = await readComponent(name);

    expect(Object.keys(content)).toEqual([job.replace(".", ".$[[ inputs.job-prefix ]]")]);
  });
});

test("cache-identity sets the default identity of jobs, and nothing else", async () => {
  const { inputs, content } = await readComponent("cache-identity");

  expect(Object.keys(inputs)).toEqual(["audience"]);
  expect(content).toEqual({
    default: { id_tokens: { FLYWHEEL_ID_TOKEN: { aud: "$[[ inputs.audience ]]" } } },
  });
});
