import { readFile } from "node:fs/promises";
import path from "node:path";

import { parse, stringify } from "yaml";

/** An input of a component, as GitLab's `spec: inputs` has it. */
export interface ComponentInput {
  readonly description: string;
  readonly default: string | number | boolean;
  readonly type?: "number" | "boolean";
  readonly options?: readonly string[];
  readonly regex?: string;
}

/** The inputs of a component, by their names. */
export type ComponentInputs = Readonly<Record<string, ComponentInput>>;

/** A component: a file of `gitlab/templates`. */
export interface Component {
  readonly name: string;
  /** One line. */
  readonly purpose: string;
  readonly inputs: ComponentInputs;
  readonly text: string;
}

/** Components that set something up, each with the action that has the same inputs. */
const SETUPS = [
  { name: "attic", action: "setup-attic", kind: "nix", tool: "Nix" },
  { name: "bazel", action: "setup-bazel-cache", kind: "bazel", tool: "Bazel" },
] as const;

/** Needs a forge's cache that a component cannot reach. */
const OF_ACTIONS_ONLY = new Set(["keep-evaluation", "keep-repositories"]);

const ADDRESS = String.raw`^(https?://[^\s"'\\]+|\$\{?\w+\}?)?$`;
/** The script's list of inputs ends at a line with a semicolon: no text that is put into it may hold one. */
const TEXT = "^[^;]*$";
/** Names of views, which a pipeline may have in variables. */
const NAMES = String.raw`^[\w.+{$}\s-]*$`;
/** What differs from the action, or bounds what a pipeline may write. */
const OVERRIDES: Readonly<Record<string, Partial<ComponentInput>>> = {
  "server-url": {
    description:
      "Address of the cache server, which the job's identity is made for. Default is the CI/CD variable FLYWHEEL_SERVER, then what the runner's configuration file names.",
    default: "$FLYWHEEL_SERVER",
    regex: ADDRESS,
  },
  audience: {
    description:
      "What the job's identity is made for, where that is not `server-url`: the server's public address.",
    default: "$FLYWHEEL_AUDIENCE",
    regex: ADDRESS,
  },
  token: {
    description:
      "A masked CI/CD variable with a token of the server, such as `$CACHE_TOKEN`, where jobs have no identity.",
    regex: String.raw`^(\$\{?\w+\}?)?$`,
  },
  cache: { regex: NAMES },
  "extra-caches": { regex: NAMES },
  // A server that never answers is waited for half as long by each job that extends this.
  timeout: { default: 10 },
  // GitLab gives an `after_script` five minutes.
  "drain-timeout": { default: 240 },
};

const JOB_PREFIX: ComponentInput = {
  description:
    "Goes before the name of the hidden job, where a pipeline includes this twice: `other-` gives `.other-flywheel-…`.",
  default: "",
  regex: "^[a-z0-9-]*$",
};

/** Renders all components of a checkout; `sha256` is the hash of the client that they bring. */
export async function renderComponents(root: string, sha256: string): Promise<Component[]> {
  const [begin, end, fetchClient] = await Promise.all(
    ["begin.sh", "end.sh", "fetch-client.cjs"].map((file) =>
      readFile(path.join(root, "scripts", "gitlab-components", file), "utf8"),
    ),
  );
  const setups = SETUPS.map(async ({ name, action, kind, tool }) => {
    const inputs = {
      ...(await readActionInputs(path.join(root, "actions", action))),
      "job-prefix": JOB_PREFIX,
    };
    const lines = Object.keys(inputs).flatMap((input) =>
      ["fail-on-error", "job-prefix"].includes(input) ? [] : [`${input}=$[[ inputs.${input} ]]`],
    );
    const script = (begin ?? "")
      .replaceAll("@tool@", tool)
      .replaceAll("@kind@", kind)
      .replaceAll("@sha256@", sha256)
      // As functions, because a dollar sign means something in a text.
      .replace("@inputs@", () => lines.join("\n"))
      .replace("@fetch@", () => (fetchClient ?? "").trim());
    const job = {
      // What the identity is made for unless `audience` says it; GitLab expands one variable by another.
      variables: { FLYWHEEL_AUDIENCE: "$[[ inputs.server-url ]]" },
      id_tokens: { FLYWHEEL_ID_TOKEN: { aud: "$[[ inputs.audience ]]" } },
      before_script: [script],
      after_script: [end],
    };
    const key = `.$[[ inputs.job-prefix ]]flywheel-${kind}`;
    return renderComponent({
      name,
      purpose: `hidden job \`.flywheel-${kind}\`: ${tool} reads from the cache, and what is built goes there`,
      inputs,
      content: { [key]: job },
    });
  });
  return [
    ...(await Promise.all(setups)),
    renderComponent({
      name: "cache-identity",
      purpose: "an identity for every job of the pipeline that names none itself; nothing else",
      inputs: {
        audience: {
          description:
            "Address of the cache server, which every job's identity is made for. Default is the CI/CD variable FLYWHEEL_SERVER.",
          default: "$FLYWHEEL_SERVER",
          regex: ADDRESS,
        },
      },
      content: { default: { id_tokens: { FLYWHEEL_ID_TOKEN: { aud: "$[[ inputs.audience ]]" } } } },
    }),
  ];
}

function renderComponent({
  content,
  ...component
}: Omit<Component, "text"> & { readonly content: unknown }): Component {
  const head =
    "# Made by `pnpm build:actions` from scripts/gitlab-components of the sources, which README.md names; change it there.\n";
  const options = { lineWidth: 0 };
  const spec = stringify({ spec: { inputs: component.inputs } }, options);
  return { ...component, text: `${head}${spec}---\n${stringify(content, options)}` };
}

interface ActionInput {
  readonly description: string;
  readonly default?: string;
}

interface InputType {
  readonly type: "string" | "integer" | "boolean" | "enum" | "list";
  readonly "allowed-values"?: readonly string[];
}

/** The inputs of an action in GitLab's types. */
async function readActionInputs(action: string): Promise<ComponentInputs> {
  const read = async <T>(file: string): Promise<Readonly<Record<string, T>>> =>
    (
      parse(await readFile(path.join(action, file), "utf8")) as {
        readonly inputs: Readonly<Record<string, T>>;
      }
    ).inputs;
  const [inputs, types] = await Promise.all([
    read<ActionInput>("action.yml"),
    read<InputType>("action-types.yml"),
  ]);
  return Object.fromEntries(
    Object.entries(inputs).flatMap(([name, input]) =>
      OF_ACTIONS_ONLY.has(name)
        ? []
        : [[name, { ...toComponentInput(input, types[name]), ...OVERRIDES[name] }]],
    ),
  );
}

function toComponentInput(input: ActionInput, type: InputType | undefined): ComponentInput {
  const { description, default: given = "" } = input;
  switch (type?.type) {
    case "boolean":
      return { description, type: "boolean", default: given === "true" };
    case "integer":
      // A number of GitLab's cannot be left out.
      return given === ""
        ? { description, default: "", regex: String.raw`^\d*$` }
        : { description, type: "number", default: Number(given) };
    case "enum":
      return { description, options: type["allowed-values"] ?? [], default: given };
    default:
      return { description, default: given, regex: TEXT };
  }
}
