import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import type { SetupKind } from "@glorious/runner-agent";
import { afterEach, expect, test } from "vitest";
import { parse } from "yaml";

import { readInputs } from "./setup-inputs.ts";

interface Manifest {
  readonly inputs: Readonly<Record<string, { readonly default?: string }>>;
  readonly outputs: Readonly<Record<string, unknown>>;
}

const read = async (action: string, file: string): Promise<Manifest> => {
  const url = new URL(`../../../actions/${action}/${file}`, import.meta.url);
  return parse(await readFile(fileURLToPath(url), "utf8")) as Manifest;
};

const ACTIONS: readonly (readonly [string, readonly SetupKind[]])[] = [
  ["setup-attic", ["nix"]],
  ["setup-bazel-cache", ["bazel"]],
  ["setup-flywheel", ["nix", "bazel"]],
];
const environment = process.env;

afterEach(() => {
  process.env = environment;
});

test.each(ACTIONS)(
  "%s reads exactly the inputs of its action.yml, whose defaults are good",
  async (action, kinds) => {
    const { inputs } = await read(action, "action.yml");
    const asked = new Set<string>();
    const given = Object.entries(inputs).map(([name, input]) => [
      `INPUT_${name.toUpperCase()}`,
      input.default ?? "",
    ]);
    process.env = new Proxy(Object.fromEntries(given) as NodeJS.ProcessEnv, {
      get(target, name) {
        if (typeof name === "string") asked.add(name);
        return Reflect.get(target, name) as unknown;
      },
    });

    const { request, failOnError, keeps } = readInputs(kinds, {});

    expect(asked).toEqual(new Set(given.map(([name]) => name)));
    expect({ failOnError, keeps }).toEqual({ failOnError: false, keeps: [] });
    expect(request).toMatchObject({
      kinds,
      push: "auto",
      timeoutSeconds: 30,
      drainTimeoutSeconds: 300,
    });
  },
);

test.each(ACTIONS)(
  "%s: an input that is empty, as a variable that is not set makes it, is as if it were left out",
  async (action, kinds) => {
    const { inputs } = await read(action, "action.yml");
    const readWith = (value: (fallback: string) => string): unknown => {
      process.env = Object.fromEntries(
        Object.entries(inputs).map(([name, { default: fallback = "" }]) => [
          `INPUT_${name.toUpperCase()}`,
          value(fallback),
        ]),
      ) as NodeJS.ProcessEnv;
      return readInputs(kinds, {});
    };

    expect(readWith(() => "")).toEqual(readWith((fallback) => fallback));
  },
);

test.each(ACTIONS)("%s states the type of each input and output", async (action) => {
  const [manifest, types] = [
    await read(action, "action.yml"),
    await read(action, "action-types.yml"),
  ];
  expect(Object.keys(types.inputs)).toEqual(Object.keys(manifest.inputs));
  expect(Object.keys(types.outputs)).toEqual(Object.keys(manifest.outputs));
});
