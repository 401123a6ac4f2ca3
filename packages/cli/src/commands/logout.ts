import { applyChanges, readState, toHttpUrl } from "@glorious/cache-client";

import { bazelPaths, readBazelFiles } from "../bazel-config/bazel-files.ts";
import { planUndoBazel } from "../bazel-config/plan-use-bazel.ts";
import { type CliContext, note } from "../cli-context.ts";
import {
  type ClientConfig,
  clientConfigPath,
  readClientConfig,
  writeClientConfig,
} from "../client-config.ts";
import { type Command, defineCommand } from "../command.ts";
import { nixConfPath } from "../nix-config/nix-files.ts";
import { fromNixConfPath, planUndo, readBlock } from "../nix-config/plan-use.ts";
import { reportChanges } from "../user-files/report-changes.ts";
import { abbreviate } from "../user-folders.ts";

export const command: Command = defineCommand({
  name: "logout",
  summary: "Forget a server and the token for it",
  description: `Removes what login saved of the server, and what use and use bazel configured for its views.
The token itself stays good until it expires or is revoked. Doing it twice is the same as doing it once.`,
  args: [
    {
      name: "NAME",
      help: "The name or address of the server; default is the default server",
      isOptional: true,
      completes: "nothing",
    },
  ],
  options: {},
  environment: [],
  examples: [
    { comment: "Forget the default server", command: "flywheel logout" },
    { comment: "Forget another one", command: "flywheel logout work" },
  ],
  async run({ args }, context) {
    const config = await readClientConfig(context);
    const wanted = args[0] ?? config.defaultServer;
    const name = wanted === undefined ? undefined : await findName(wanted, config);
    const url = name === undefined ? undefined : config.servers[name]?.url;
    if (name === undefined || url === undefined) {
      const which = wanted === undefined ? "a default server" : JSON.stringify(wanted);
      note(context, `There is no login to ${which}.`);
      return;
    }
    // Its users first: when that fails, the login is still there, and doing it again goes on.
    await forgetInNix(url, context);
    await forgetInBazel(url, context);
    const { [name]: _, ...servers } = config.servers;
    await writeClientConfig(context, {
      ...(config.defaultServer === undefined || config.defaultServer === name
        ? {}
        : { defaultServer: config.defaultServer }),
      servers,
    });
    note(context, `Removed ${name} from ${abbreviate(clientConfigPath(context), context.env)}.`);
  },
});

/** The name of a saved server, given its name or address. */
async function findName(wanted: string, { servers }: ClientConfig): Promise<string | undefined> {
  if (Object.hasOwn(servers, wanted)) return wanted;
  if (!wanted.includes("/")) return undefined;
  const { parseServerUrl } = await import("@glorious/cache-client");
  const { href } = parseServerUrl(wanted);
  return Object.keys(servers).find((name) => servers[name]?.url === href);
}

async function forgetInNix(url: string, context: CliContext): Promise<void> {
  const nixConf = await readState(nixConfPath("user", context));
  const { netrcFile } = readBlock(nixConf);
  const plan = planUndo({
    nixConf,
    netrc: netrcFile === undefined ? undefined : await readState(fromNixConfPath(netrcFile)),
    isUnwanted: ({ substituter }) => substituter.startsWith(url),
  });
  await applyChanges(plan.changes);
  reportChanges(plan.changes, context);
}

async function forgetInBazel(url: string, context: CliContext): Promise<void> {
  const files = await readBazelFiles(bazelPaths("user", context));
  const cache = /^build --remote_cache=(\S+)$/m.exec(files.ownRc.text ?? "")?.[1];
  if (cache === undefined || toHttpUrl(cache).host !== new URL(url).host) return;
  const { changes } = planUndoBazel(files);
  await applyChanges(changes);
  reportChanges(changes, context);
}
