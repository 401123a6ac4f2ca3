import { applyChanges, readState } from "@glorious/cache-client";
import { CacheError } from "@glorious/core";
import { parsePublicKey } from "@glorious/nix-store";
import { ADMIN_NAMESPACE, decodeTokenUnverified } from "@glorious/trust";

import { type CliContext, note, warn } from "../cli-context.ts";
import { type Command, defineCommand, flag } from "../command.ts";
import type { NixCache } from "../nix-config/nix-conf.ts";
import {
  chooseNetrc,
  describeDaemon,
  nixConfPath,
  type NixScope,
  readNixConfTexts,
} from "../nix-config/nix-files.ts";
import {
  fromNixConfPath,
  planUndo,
  planUse,
  readBlock,
  readTrustedKeys,
} from "../nix-config/plan-use.ts";
import {
  chooseServer,
  requireView,
  SERVER_ENVIRONMENT,
  SERVER_OPTIONS,
  VIEW_OPTION,
} from "../server-options.ts";
import { reportChanges, showChanges } from "../user-files/report-changes.ts";

export const command: Command = defineCommand({
  name: "use",
  summary: "Configure Nix to substitute from a view",
  description: `Adds the view's address and public keys to nix.conf and, for a private view, the token to the netrc
file that Nix reads: all three or none. Your own lines stay as they are, and --undo gives back the very
files you had. Doing it twice is the same as doing it once.`,
  args: [
    { name: "VIEW", help: "The view; default is --view", isOptional: true, completes: "nothing" },
  ],
  options: {
    ...SERVER_OPTIONS,
    ...VIEW_OPTION,
    undo: flag("Take VIEW out again, or everything that was added"),
    system: flag("Configure Nix for the whole machine, in /etc/nix"),
    dryRun: flag("Show the lines for nix.conf, change nothing"),
  },
  environment: [
    ...SERVER_ENVIRONMENT,
    [
      "NIX_CONF_DIR, NIX_USER_CONF_FILES, XDG_CONFIG_HOME",
      "Where Nix is configured, as for Nix itself",
    ],
  ],
  examples: [
    { comment: "Substitute from the view you logged in to", command: "flywheel use" },
    { comment: "Do so for every user of this machine", command: "sudo flywheel use --system main" },
    { comment: "Give back the configuration you had", command: "flywheel use --undo" },
  ],
  async run({ options, args }, context) {
    const scope: NixScope = options.system ? "system" : "user";
    const [named = options.view] = args;
    if (options.undo) return undo(scope, args[0], options, context);
    const choice = await chooseServer(options, context);
    const view = requireView(named, choice);
    const { openCache } = await import("@glorious/cache-client");
    await using cache = await openCache({ ...choice, view, signal: context.signal });
    const { isPublic, publicKey, substituterEndpoint, flywheel } = cache.config;
    if (isPublic !== true && choice.token === undefined) {
      throw new CacheError(
        "UNAUTHENTICATED",
        `The view ${view} is private, and there is no token`,
        {
          hint: "Log in with a token that may pull from it.",
        },
      );
    }
    if (publicKey === undefined) {
      throw new CacheError(
        "UNSUPPORTED",
        `${choice.server} does not tell the public key of ${view}`,
      );
    }
    const publicKeys = flywheel?.publicKeys ?? [];
    const substituter = substituterEndpoint ?? new URL(view, cache.server).href;
    await configure(
      scope,
      { substituter, publicKeys: publicKeys.length > 0 ? publicKeys : [publicKey] },
      isPublic === true ? undefined : choice.token,
      {
        isDryRun: options.dryRun,
        context,
      },
    );
  },
});

async function configure(
  scope: NixScope,
  cache: NixCache,
  token: string | undefined,
  { isDryRun, context }: { readonly isDryRun: boolean; readonly context: CliContext },
): Promise<void> {
  requireOneWord(cache.substituter);
  for (const key of cache.publicKeys) parsePublicKey(key);
  const nixConf = await readState(nixConfPath(scope, context));
  const texts = await readNixConfTexts(scope, context);
  const { netrcFile } = readBlock(nixConf);
  const netrc = await chooseNetrc(scope, texts, context);
  const plan = planUse({
    cache,
    token,
    nixConf,
    oldNetrc: netrcFile === undefined ? undefined : await readState(fromNixConfPath(netrcFile)),
    netrc: await readState(netrc.path),
    setsNetrcFile: netrc.setsNetrcFile,
    trustedKeys: readTrustedKeys(texts),
  });
  if (isDryRun) return showChanges(plan.changes, context);
  await applyChanges(plan.changes);
  reportChanges(plan.changes, context);
  const warnings = [
    ...plan.warnings,
    ...(token === undefined ? [] : [...netrc.warnings, ...describeExcess(token)]),
    ...(await describeDaemon(scope, context)),
  ];
  for (const line of warnings) warn(context, line);
  note(context, `Nix now substitutes from ${cache.substituter}.`);
}

async function undo(
  scope: NixScope,
  view: string | undefined,
  options: { readonly server: string | undefined; readonly dryRun: boolean },
  context: CliContext,
): Promise<void> {
  const nixConf = await readState(nixConfPath(scope, context));
  const { netrcFile, caches } = readBlock(nixConf);
  const plan = planUndo({
    nixConf,
    netrc: netrcFile === undefined ? undefined : await readState(fromNixConfPath(netrcFile)),
    isUnwanted: ({ substituter }) => view === undefined || lastSegment(substituter) === view,
  });
  if (view !== undefined && plan.removed.length === 0) {
    const known = caches.map(({ substituter }) => lastSegment(substituter));
    throw new CacheError(
      "NOT_FOUND",
      `${nixConf.path} has nothing of flywheel's for a view ${JSON.stringify(view)}`,
      { hint: known.length === 0 ? undefined : `It has ${known.join(", ")}.` },
    );
  }
  if (options.dryRun) return showChanges(plan.changes, context);
  await applyChanges(plan.changes);
  if (plan.removed.length === 0)
    return note(context, `There is nothing to undo in ${nixConf.path}.`);
  reportChanges(plan.changes, context);
  for (const { substituter } of plan.removed)
    note(context, `Nix no longer substitutes from ${substituter}.`);
}

/** Nix only ever pulls, and many processes can read what Nix reads. */
function describeExcess(token: string): string[] {
  const decoded = decodeTokenUnverified(token);
  if (decoded === undefined) return [];
  const namespace = decoded.payload[ADMIN_NAMESPACE];
  const isAdmin = typeof namespace === "object" && namespace !== null && "admin" in namespace;
  return isAdmin
    ? [
        "Nix now holds an administrator's token. One that may only pull is safer: `flywheel token create --pull VIEW`.",
      ]
    : [];
}

/** A server must not slip further settings into nix.conf. */
function requireOneWord(substituter: string): void {
  const url = URL.parse(substituter);
  if (/^https?:\/\/[\x21-\x7E]+$/.test(substituter) && url !== null && !substituter.includes("#"))
    return;
  throw new CacheError("CORRUPT", "The server names a substituter address that is none", {
    hint: "Check the server's public address.",
  });
}

function lastSegment(url: string): string {
  return decodeURIComponent(new URL(url).pathname.split("/").findLast((part) => part !== "") ?? "");
}
