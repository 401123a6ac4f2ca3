import { appendFile } from "node:fs/promises";
import { resolve } from "node:path";

import { isCacheError, quoteShell } from "@glorious/core";
import type { SetupRequest, SetupResult } from "@glorious/runner-agent";

import { type CliContext, note, printLine, warn } from "../cli-context.ts";
import { type Command, defineCommand, flag, list, text, value } from "../command.ts";
import { oneOf } from "../one-of.ts";
import { durationSeconds, milliseconds, wholeNumber } from "../parse-number.ts";
import { readStandardInput, readTokenFile } from "../read-secret.ts";
import { SERVER_ENVIRONMENT, VIEW_OPTION } from "../server-options.ts";
import { UsageError } from "../usage-error.ts";

export const command: Command = defineCommand({
  name: "setup",
  summary: "Set a CI job up: start its agent, point Nix and Bazel to it",
  description: `Finds out what the job may do, starts an agent beside it, and configures Nix and Bazel to go through the agent, so
that nothing that happens to the cache fails or hangs the job. Needs no secret: the job shows its forge's identity, and
without one it reads what is public. The exit code is 0 whatever happens, only a request that makes no sense gives 2;
the result says what was done: ready, read-only, pending, degraded or disabled, and why. Its end is
\`flywheel drain --end\`.`,
  options: {
    kind: list("KIND", "What to configure: nix or bazel; may be repeated", oneOf("nix", "bazel"), {
      completes: ["nix", "bazel"],
    }),
    server: text("URL", "The server; default is the runner's", { environment: "FLYWHEEL_SERVER" }),
    ...VIEW_OPTION,
    extraView: list("NAME", "Let Nix read this view as well; may be repeated", (given) => given, {
      completes: "nothing",
    }),
    audience: text("URL", "The server's public address, when --server is another one", {
      completes: "nothing",
    }),
    tokenFile: text("FILE", "Use this token, not the job's identity; - is standard input", {
      completes: "file",
    }),
    pushWhen: value(
      "WHEN",
      "auto (if the job may), true (say when it may not), false",
      oneOf("auto", "true", "false"),
      {
        completes: ["auto", "true", "false"],
      },
    ),
    pushMode: value(
      "HOW",
      "auto, hook, store-diff or none",
      oneOf("auto", "hook", "store-diff", "none"),
      {
        completes: ["auto", "hook", "store-diff", "none"],
      },
    ),
    pushExcept: list("REGEX", "Do not push built paths that match", (given) => given),
    noSubstituter: flag("Push, but let Nix read nothing from the cache"),
    priority: value("N", "Nix's priority for the cache; lower is first", wholeNumber(0, 1000)),
    timeout: value("TIME", "How long all of it may take; default 30s", durationSeconds),
    serverWait: value(
      "TIME",
      "How long the job waits for the server; then its agent alone asks on",
      milliseconds,
      { environment: "FLYWHEEL_SERVER_WAIT" },
    ),
    drain: value("TIME", "How long the drain may take; default 300s", durationSeconds),
    instance: text("NAME", "Keep Bazel's results apart from others of the view", {
      completes: "nothing",
    }),
    bazelrc: value(
      "WHERE",
      "user (a line in ~/.bazelrc), file or none",
      oneOf("user", "file", "none"),
      {
        completes: ["user", "file", "none"],
      },
    ),
    bazelConfig: text("NAME", "Bazel uses the cache with --config=NAME only", {
      completes: "nothing",
    }),
    bazelVersion: text("VERSION", "Bazel's version, instead of asking it", {
      completes: "nothing",
    }),
    request: text("FILE", "Take all of it from FILE as JSON, - is standard input", {
      completes: "file",
    }),
    inputs: text("FILE", "Take the inputs of a GitLab component from FILE, - is standard input", {
      completes: "file",
    }),
    shell: flag("Print what to export, for a shell's eval"),
    // Node takes an `--env-file` for its own, also behind the name of a script.
    exportFile: text("FILE", "Append what to export as NAME=value, such as to $GITHUB_ENV", {
      completes: "file",
    }),
    mask: flag("Print the ::add-mask:: commands of GitHub's runners for what no log may show"),
    json: flag("Print the result as one line of JSON; it holds what to mask in logs"),
  },
  environment: [
    ...SERVER_ENVIRONMENT,
    ["FLYWHEEL_ID_TOKEN", "The job's identity token (GitLab)"],
    ["ACTIONS_ID_TOKEN_REQUEST_URL", "Where GitHub and Forgejo give identity tokens, with _TOKEN"],
    ["ACTIONS_CACHE_MODE", "read: nothing is written; none: nothing is done"],
    [
      "FLYWHEEL_RUNNER_CONFIG",
      "JSON file of the runner: version, server, audience, identityTokenFile",
    ],
    ["ATTIC_SERVER", "The server when nobody else names one; ATTIC_CACHE its view"],
    ["RUNNER_TEMP", "Where the session's folder goes"],
    [
      "FLYWHEEL_SESSION",
      "The session that the job has already: it is reported, or gets what it lacks",
    ],
  ],
  examples: [
    { comment: "In a shell of a job", command: 'eval "$(flywheel setup --kind nix --shell)"' },
    {
      comment: "What would the job get?",
      command: "flywheel setup --kind nix --kind bazel --json",
    },
  ],
  async run({ options }, context) {
    if ([options.shell, options.json, options.mask].filter(Boolean).length > 1) {
      throw new UsageError("--shell, --json and --mask exclude each other");
    }
    const { runSetup } = await import("@glorious/runner-agent");
    const isWhole = options.request !== undefined;
    const request = isWhole
      ? await readRequest(options.request ?? "-", context)
      : options.inputs !== undefined
        ? await readInputs(options.inputs, options.kind, context)
        : await buildRequest(options, context);
    const waitSeconds = options.serverWait === undefined ? undefined : options.serverWait / 1000;
    const result = await runSetup(isWhole ? request : { ...request, waitSeconds }, context);
    if (options.mask) {
      for (const secret of result.masks) printLine(context, `::add-mask::${secret}`);
    }
    for (const line of result.notes) note(context, line);
    if (options.exportFile !== undefined) {
      await appendFile(
        resolve(context.workingDirectory, options.exportFile),
        Object.entries(result.environment)
          .map(([name, given]) => `${name}=${given}\n`)
          .join(""),
      );
    }
    if (options.json || (isWhole && !options.shell && !options.mask)) {
      return printLine(context, JSON.stringify(result));
    }
    describeResult(result, context);
    if (options.shell) for (const line of formatExports(result)) printLine(context, line);
  },
});

async function readRequest(file: string, context: CliContext): Promise<SetupRequest> {
  const { parseSetupRequest } = await import("@glorious/runner-agent");
  const source = await readSource(file, context);
  try {
    return parseSetupRequest(source);
  } catch (error) {
    if (!isCacheError(error, "INVALID")) throw error;
    throw new UsageError(error.message);
  }
}

async function readInputs(
  file: string,
  kinds: SetupRequest["kinds"],
  context: CliContext,
): Promise<SetupRequest> {
  const { readComponentInputs } = await import("../component-inputs.ts");
  return readComponentInputs(await readSource(file, context), {
    kinds: requireKinds(kinds),
    env: context.env,
    workspace: context.workingDirectory,
  });
}

async function readSource(file: string, context: CliContext): Promise<string> {
  if (file === "-") return readStandardInput(context);
  const { readFile } = await import("node:fs/promises");
  return readFile(resolve(context.workingDirectory, file), "utf8");
}

function requireKinds(kinds: SetupRequest["kinds"]): SetupRequest["kinds"] {
  if (kinds.length > 0) return kinds;
  throw new UsageError("What is to be set up?", "Write --kind nix, --kind bazel or both.");
}

interface SetupOptions {
  readonly kind: readonly SetupRequest["kinds"][number][];
  readonly server: string | undefined;
  readonly view: string | undefined;
  readonly extraView: readonly string[];
  readonly audience: string | undefined;
  readonly tokenFile: string | undefined;
  readonly pushWhen: SetupRequest["push"] | undefined;
  readonly pushMode: SetupRequest["pushMode"] | undefined;
  readonly pushExcept: readonly string[];
  readonly noSubstituter: boolean;
  readonly priority: number | undefined;
  readonly timeout: number | undefined;
  readonly drain: number | undefined;
  readonly instance: string | undefined;
  readonly bazelrc: "user" | "file" | "none" | undefined;
  readonly bazelConfig: string | undefined;
  readonly bazelVersion: string | undefined;
}

/** The same request that an action sends, so that both are checked and done in one way. */
async function buildRequest(options: SetupOptions, context: CliContext): Promise<SetupRequest> {
  const kinds = requireKinds(options.kind);
  const { parseSetupRequest } = await import("@glorious/runner-agent");
  const { tokenFile } = options;
  const token =
    tokenFile === undefined
      ? context.env["FLYWHEEL_TOKEN"]
      : await readTokenFile(tokenFile, context);
  try {
    return parseSetupRequest(
      JSON.stringify({
        version: 1,
        kinds,
        token,
        serverUrl: options.server,
        view: options.view,
        extraViews: options.extraView,
        audience: options.audience,
        push: options.pushWhen,
        pushMode: options.pushMode,
        pushFilter: options.pushExcept,
        configureSubstituter: !options.noSubstituter,
        priority: options.priority,
        timeoutSeconds: options.timeout,
        drainTimeoutSeconds: options.drain,
        bazel: {
          instanceName: options.instance,
          rc: options.bazelrc,
          configName: options.bazelConfig,
          bazelVersion: options.bazelVersion,
        },
        workspace: context.workingDirectory,
      }),
    );
  } catch (error) {
    if (!isCacheError(error, "INVALID")) throw error;
    throw new UsageError(error.message);
  }
}

function describeResult(result: SetupResult, context: CliContext): void {
  note(context, `${result.status}: ${result.reason}`);
  for (const line of result.hint ?? []) note(context, `  ${line}`);
  for (const { message } of result.warnings) {
    if (message !== result.reason) warn(context, message);
  }
  if (result.cache === undefined || result.status === "pending") return;
  const { substituter, bazel, cache, extraCaches, timings } = result;
  const isRead = substituter !== undefined || bazel !== undefined;
  const reads = isRead ? [cache, ...extraCaches].join(", then ") : "nothing";
  note(context, `Reads ${reads}, ${describeWrites(result)}; took ${timings.totalMs} ms.`);
}

function formatExports({ environment }: SetupResult): string[] {
  return Object.entries(environment).map(([name, given]) => `export ${name}=${quoteShell(given)}`);
}

function describeWrites({ canPush, pushMode, bazel }: SetupResult): string {
  if (canPush && pushMode !== "none") return `pushes (${pushMode})`;
  return canPush && bazel !== undefined ? "writes" : "pushes nothing";
}
