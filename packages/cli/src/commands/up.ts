import { once } from "node:events";
import { accessSync, constants, existsSync } from "node:fs";
import { delimiter, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import type { EmbeddedPlane, LoadOptions, SettingName } from "@glorious/cache-server";
import { quoteShell } from "@glorious/core";

import { type CliContext, note, printLine } from "../cli-context.ts";
import { type Command, defineCommand, flag, text } from "../command.ts";
import { createTerminalLogger } from "../terminal-logger.ts";
import { formatTryLines } from "../try-lines.ts";
import { dataHome } from "../user-folders.ts";

export const command: Command = defineCommand({
  name: "up",
  summary: "Run a cache of your own on this machine",
  description: `Server, store and index in one process. The first start makes the keys, a private view and an
administrator's token; later starts find them again. Interrupt it to stop it: running uploads finish
first. Every setting of the configuration file has a FLYWHEEL_* variable, options win over variables. The log goes to
standard error: words on a terminal, elsewhere and with --json a line of JSON for each event.`,
  options: {
    data: text(
      "FOLDER",
      "Where everything is kept; default ~/.local/share/flywheel (or FLYWHEEL_DATA)",
      {
        completes: "directory",
      },
    ),
    listen: text("HOST:PORT", "Where to listen; default 127.0.0.1:7480 (or FLYWHEEL_LISTEN)"),
    config: text("FILE", "Read settings from a YAML or JSON file", { completes: "file" }),
    view: text("NAME", "The view that the first start makes; default main"),
    public: flag("Let everybody pull from that view, without a token"),
    publicUrl: text("URL", "How clients reach the server when a proxy stands before it"),
    tlsCert: text("FILE", "Certificate chain in PEM form: serve HTTPS", { completes: "file" }),
    tlsKey: text("FILE", "The certificate's private key", { completes: "file" }),
    tlsClientCa: text("FILE", "Accept only clients with a certificate of this authority", {
      completes: "file",
    }),
    json: flag("Print one line of JSON when ready, instead of the explanation"),
  },
  environment: [["FLYWHEEL_*", "Any setting of the server, such as FLYWHEEL_LOG_REQUESTS=false"]],
  examples: [
    { comment: "Start a cache, then paste the lines it prints", command: "flywheel up" },
    {
      comment: "Serve a team: any address, everybody may pull",
      command: "flywheel up --listen 0.0.0.0:7480 --data /var/lib/flywheel --public",
    },
    {
      comment: "Stand behind a proxy that does TLS",
      command: "flywheel up --public-url https://cache.example.org",
    },
  ],
  async run({ options }, context) {
    const { loadSettings, startEmbedded } = await import("@glorious/cache-server");
    const path = (file: string): string => resolve(context.workingDirectory, file);
    const flags = collectFlags({
      dataDirectory: ["--data", options.data, path],
      listen: ["--listen", options.listen],
      publicUrl: ["--public-url", options.publicUrl],
      tlsCert: ["--tls-cert", options.tlsCert, path],
      tlsKey: ["--tls-key", options.tlsKey, path],
      tlsClientCa: ["--tls-client-ca", options.tlsClientCa, path],
    });
    const sources: LoadOptions = {
      file: options.config === undefined ? undefined : path(options.config),
      environment: context.env,
      flags,
    };
    const { dataDirectory, logLevel } = await loadSettings(sources);
    // Absolute, so that the lines printed below hold in every folder.
    const data = path(dataDirectory ?? join(dataHome(context.env), "flywheel"));
    const isWatched = context.stderr.isTTY === true && !options.json;
    const logger = isWatched ? createTerminalLogger(logLevel, context) : undefined;
    const plane = await startEmbedded({
      ...sources,
      flags: {
        ...flags,
        dataDirectory: { flag: "--data", value: data },
      },
      ...(logger === undefined ? {} : { logger }),
      clientBundle: findClientBundle(),
      ...(options.view === undefined ? {} : { view: options.view }),
      isPublic: options.public ? true : undefined,
    });
    announce(plane, data, options.json, context);
    logger?.showAll();
    if (!context.signal.aborted) await once(context.signal, "abort");
    note(context, "Stopping; running requests may finish.");
    await plane.close();
  },
});

type Flags = NonNullable<LoadOptions["flags"]>;
type FlagValue = readonly [
  flag: string,
  value: string | undefined,
  convert?: (value: string) => string,
];

function collectFlags(given: Partial<Record<SettingName, FlagValue>>): Flags {
  return Object.fromEntries(
    Object.entries(given).flatMap(([name, [flagName, value, convert]]) =>
      value === undefined
        ? []
        : [[name, { flag: flagName, value: convert === undefined ? value : convert(value) }]],
    ),
  );
}

function announce(plane: EmbeddedPlane, data: string, isJson: boolean, context: CliContext): void {
  const { url, view, substituter, publicKey, tokenFile, netrcFile, isPublic, isFirstStart } = plane;
  const { bazelGrpc, bazelHttp } = plane;
  const commands = formatTryLines({
    flywheel: findLauncher(),
    url,
    view,
    substituter,
    publicKey,
    tokenFile,
    netrcFile,
    needsNix: !isOnPath("nix-build", context),
    needsSudo: context.userId !== 0,
  });
  if (isJson) {
    const ready = {
      url,
      view,
      substituter,
      publicKey,
      tokenFile,
      netrcFile,
      isPublic,
      isFirstStart,
      bazelGrpc,
      bazelHttp,
    };
    printLine(context, JSON.stringify({ ...ready, commands }));
    return;
  }
  const visibility = isPublic ? "everybody may pull" : "private";
  const lines = [
    `The cache is ready at ${url}`,
    "",
    `  view         ${view} (${visibility})`,
    `  substituter  ${substituter}`,
    `  public key   ${publicKey}`,
    ...(bazelGrpc === undefined
      ? []
      : [
          `  Bazel        --remote_cache=${bazelGrpc} --remote_instance_name=${view}`,
          `               or --remote_cache=${bazelHttp}`,
        ]),
    `  data         ${data}`,
    `  token file   ${tokenFile}`,
    "",
    "Try it: paste these lines into another shell. They build something small, push it, and",
    "substitute it into an empty store, signature checked.",
    "",
    ...commands,
    "",
    "Use it from now on, in another shell:",
    "",
    [findLauncher(), "login", url, "--token-file", tokenFile, "--view", view]
      .map(quoteShell)
      .join(" "),
    `${quoteShell(findLauncher())} use`,
    ...(bazelGrpc === undefined ? [] : [`${quoteShell(findLauncher())} use bazel`]),
    "",
    "Ctrl-C stops it; what it holds stays.",
    "",
  ];
  for (const line of lines) printLine(context, line);
}

/** This checkout's launcher; installed as a package there is none, and the command is on PATH. */
function findLauncher(): string {
  const launcher = fileURLToPath(new URL("../../../../bin/flywheel", import.meta.url));
  return isExecutable(launcher) ? launcher : "flywheel";
}

/** The command for CI jobs: in a package beside this one, in a checkout as the actions have it. */
function findClientBundle(): string | undefined {
  const folder = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));
  const packed = join(folder(".."), "flywheel.mjs");
  const checkout = join(folder("../../../../"), "actions", "setup-attic", "dist", "flywheel.mjs");
  return [packed, checkout].find((file) => existsSync(file));
}

function isOnPath(name: string, context: CliContext): boolean {
  const folders = (context.env["PATH"] ?? "").split(delimiter).filter((folder) => folder !== "");
  return folders.some((folder) => isExecutable(join(folder, name)));
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
