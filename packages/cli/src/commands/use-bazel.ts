import {
  applyChanges,
  askBazelRelease,
  type BazelRelease,
  formatBazelRc,
  isAtLeast,
  parseBazelRelease,
  toHttpUrl,
  mayPush,
} from "@glorious/cache-client";
import { CacheError } from "@glorious/core";

import {
  type BazelPaths,
  type BazelScope,
  bazelPaths,
  readBazelFiles,
} from "../bazel-config/bazel-files.ts";
import { formatCredentialScript } from "../bazel-config/credential-script.ts";
import {
  type BazelCredential,
  isBazelConfigured,
  planUndoBazel,
  planUseBazel,
} from "../bazel-config/plan-use-bazel.ts";
import { type CliContext, note, warn } from "../cli-context.ts";
import { type Command, defineCommand, flag, text, value } from "../command.ts";
import {
  chooseServer,
  readExplicitToken,
  requireView,
  SERVER_ENVIRONMENT,
  SERVER_OPTIONS,
  type ServerChoice,
  VIEW_OPTION,
} from "../server-options.ts";
import { netrcHost } from "../user-files/netrc.ts";
import { reportChanges, showChanges } from "../user-files/report-changes.ts";
import { configHome } from "../user-folders.ts";

export const command: Command = defineCommand({
  name: "use bazel",
  summary: "Configure Bazel to use a view as its remote cache",
  description: `Writes an rc file of its own, and one line into your .bazelrc that brings it in. The settings fit the
Bazel you have, and let a build go on without the cache when that is down. The token stays in files that only you can
read: Bazel 7 and newer ask a credential helper for it, older ones read it from your netrc file. --undo gives back the
very files you had.`,
  args: [
    { name: "VIEW", help: "The view; default is --view", isOptional: true, completes: "nothing" },
  ],
  options: {
    ...SERVER_OPTIONS,
    ...VIEW_OPTION,
    instance: text("NAME", "Keep results apart from others of the view, such as linux/release", {
      completes: "nothing",
    }),
    http: flag("Speak HTTP/1.1, for proxies that let no gRPC through"),
    readOnly: flag("Take results, give none"),
    uncompressed: flag("Send blobs as they are, so that slow uploads go on after 10 seconds"),
    bazel: text("COMMAND", "The Bazel to configure; default bazel", { completes: "file" }),
    bazelVersion: value("VERSION", "Its version, instead of asking it", parseBazelRelease, {
      completes: "nothing",
    }),
    system: flag("Configure Bazel for the whole machine, in /etc/bazel.bazelrc"),
    undo: flag("Take everything out again"),
    dryRun: flag("Show what would be written, change nothing"),
  },
  environment: [
    ...SERVER_ENVIRONMENT,
    ["NETRC", "Your netrc file, as for Bazel itself; default ~/.netrc"],
    ["XDG_CONFIG_HOME", "Where our own files go; default ~/.config"],
  ],
  examples: [
    { comment: "Use the view you logged in to", command: "flywheel use bazel" },
    {
      comment: "Take results in a job that may not write any",
      command: "flywheel use bazel main --read-only",
    },
    { comment: "Give back the configuration you had", command: "flywheel use bazel --undo" },
  ],
  async run({ options, args }, context) {
    const scope: BazelScope = options.system ? "system" : "user";
    const paths = bazelPaths(scope, context);
    if (options.undo) return undo(paths, options.dryRun, context);
    const choice = await chooseServer(options, context);
    const view = requireView(args[0] ?? options.view, choice);
    const target = await findEndpoint(choice, view, options, context);
    const release =
      options.bazelVersion ??
      (await askBazelRelease(options.bazel ?? "bazel", {
        env: context.env,
        cwd: context.workingDirectory,
        signal: context.signal,
      }));
    const credential = await chooseCredential(
      { release, choice, remoteCache: target.remoteCache, isPublic: target.isPublic },
      { options, paths },
      context,
    );
    const rcText = formatBazelRc({
      release,
      remoteCache: target.remoteCache,
      instanceName: target.instanceName,
      mayPush: !options.readOnly && mayPush(choice.token, view),
      isCompressed: !options.uncompressed,
      credentialHelper: credential.kind === "helper" ? paths.credentialHelper : undefined,
    });
    const plan = planUseBazel(await readBazelFiles(paths), rcText, credential);
    if (options.dryRun) return showChanges(plan.changes, context);
    await applyChanges(plan.changes);
    reportChanges(plan.changes, context);
    for (const line of plan.warnings) warn(context, line);
    note(context, `Bazel ${release.major} now uses ${target.remoteCache}.`);
  },
});

interface Endpoint {
  readonly remoteCache: string;
  readonly instanceName: string;
  readonly isPublic: boolean;
}

async function findEndpoint(
  choice: ServerChoice,
  view: string,
  options: { readonly instance: string | undefined; readonly http: boolean },
  context: CliContext,
): Promise<Endpoint> {
  const { openCache } = await import("@glorious/cache-client");
  await using cache = await openCache({ ...choice, view, signal: context.signal });
  const { isPublic = false, flywheel } = cache.config;
  if (!isPublic && choice.token === undefined) {
    throw new CacheError("UNAUTHENTICATED", `The view ${view} is private, and there is no token`, {
      hint: "Log in with a token that may pull from it.",
    });
  }
  if (flywheel?.bazel === undefined) {
    throw new CacheError("UNSUPPORTED", `${choice.server} serves no Bazel cache`, {
      hint: "It is switched off there, or no flywheel server of this version.",
    });
  }
  const { grpc, http } = flywheel.bazel;
  const suffix = options.instance === undefined ? "" : `/${options.instance}`;
  return {
    remoteCache: options.http ? `${http}${suffix}` : grpc,
    instanceName: `${view}${suffix}`,
    isPublic,
  };
}

async function chooseCredential(
  facts: {
    readonly release: BazelRelease;
    readonly choice: ServerChoice;
    readonly remoteCache: string;
    readonly isPublic: boolean;
  },
  {
    options,
    paths,
  }: {
    readonly options: { readonly tokenFile: string | undefined };
    readonly paths: BazelPaths;
  },
  context: CliContext,
): Promise<BazelCredential> {
  const { release, choice, remoteCache } = facts;
  if (choice.token === undefined) return { kind: "none" };
  if (!isAtLeast(release, 7, 0)) {
    const host = netrcHost(toHttpUrl(remoteCache).href);
    return { kind: "netrc", host, token: choice.token };
  }
  // Another token than the one of `login` would be lost with this process.
  const explicit =
    options.tokenFile === "-" ? choice.token : await readExplicitToken(options.tokenFile, context);
  return {
    kind: "helper",
    token: explicit,
    script: formatCredentialScript({
      flywheel: context.self,
      server: choice.server,
      tokenFile: explicit === undefined ? undefined : paths.tokenFile,
      configHome: configHome(context.env),
    }),
  };
}

async function undo(paths: BazelPaths, isDryRun: boolean, context: CliContext): Promise<void> {
  const files = await readBazelFiles(paths);
  const { changes } = planUndoBazel(files);
  if (isDryRun) return showChanges(changes, context);
  await applyChanges(changes);
  if (!isBazelConfigured(files.userRc) && changes.length === 0) {
    return note(context, `There is nothing to undo in ${paths.userRc}.`);
  }
  reportChanges(changes, context);
  note(context, "Bazel no longer uses the cache.");
}
