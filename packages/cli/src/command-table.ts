import type { Command } from "./command.ts";

/** A command by name, its module loaded when it is needed. */
export interface TableEntry {
  /** The words that call it. */
  readonly name: string;
  /** The same line as in the command itself, so that the overview loads none of them. */
  readonly summary: string;
  load(): Promise<{ readonly command: Command }>;
}

/** Every command, in the order of the overview. */
export const COMMAND_TABLE: readonly TableEntry[] = [
  {
    name: "up",
    summary: "Run a cache of your own on this machine",
    load: () => import("./commands/up.ts"),
  },
  {
    name: "login",
    summary: "Remember a server and the token for it",
    load: () => import("./commands/login.ts"),
  },
  {
    name: "logout",
    summary: "Forget a server and the token for it",
    load: () => import("./commands/logout.ts"),
  },
  {
    name: "exchange",
    summary: "Exchange a CI job's identity for a token of the server",
    load: () => import("./commands/exchange.ts"),
  },
  {
    name: "whoami",
    summary: "Show who the server takes you for, and until when",
    load: () => import("./commands/whoami.ts"),
  },
  {
    name: "use",
    summary: "Configure Nix to substitute from a view",
    load: () => import("./commands/use.ts"),
  },
  {
    name: "use bazel",
    summary: "Configure Bazel to use a view as its remote cache",
    load: () => import("./commands/use-bazel.ts"),
  },
  {
    name: "push",
    summary: "Upload store paths with all they refer to",
    load: () => import("./commands/push.ts"),
  },
  {
    name: "watch-store",
    summary: "Push new store paths as they appear",
    load: () => import("./commands/watch-store.ts"),
  },
  {
    name: "import",
    summary: "Bring store paths from another cache into a view",
    load: () => import("./commands/import.ts"),
  },
  {
    name: "export",
    summary: "Write a view's store paths as a static binary cache",
    load: () => import("./commands/export.ts"),
  },
  {
    name: "setup",
    summary: "Set a CI job up: start its agent, point Nix and Bazel to it",
    load: () => import("./commands/setup.ts"),
  },
  {
    name: "drain",
    summary: "Push what a job has built, and end its agent",
    load: () => import("./commands/drain.ts"),
  },
  {
    name: "session",
    summary: "Show what a job's agent is configured for, and what it did so far",
    load: () => import("./commands/session.ts"),
  },
  {
    name: "agent",
    summary: "Be the agent of a session; setup runs it",
    load: () => import("./commands/agent.ts"),
  },
  {
    name: "view create",
    summary: "Create a view",
    load: () => import("./commands/view-create.ts"),
  },
  {
    name: "view list",
    summary: "List the views your token may see",
    load: () => import("./commands/view-list.ts"),
  },
  {
    name: "view info",
    summary: "Show a view's configuration",
    load: () => import("./commands/view-info.ts"),
  },
  {
    name: "view configure",
    summary: "Change a view",
    load: () => import("./commands/view-configure.ts"),
  },
  {
    name: "view destroy",
    summary: "Remove a view and all it holds",
    load: () => import("./commands/view-destroy.ts"),
  },
  {
    name: "overlay delete",
    summary: "Remove the overlays of a branch or pull request",
    load: () => import("./commands/overlay-delete.ts"),
  },
  {
    name: "view stats",
    summary: "Show what a view holds, for Nix and for Bazel",
    load: () => import("./commands/view-stats.ts"),
  },
  {
    name: "path delete",
    summary: "Remove store paths from a view",
    load: () => import("./commands/path-delete.ts"),
  },
  {
    name: "path pin",
    summary: "Keep store paths and all they refer to",
    load: () => import("./commands/path-pin.ts"),
  },
  {
    name: "path unpin",
    summary: "Keep what a pin kept no longer than other paths",
    load: () => import("./commands/path-unpin.ts"),
  },
  {
    name: "path pins",
    summary: "Show what a view keeps for good",
    load: () => import("./commands/path-pins.ts"),
  },
  {
    name: "gc",
    summary: "Delete what a view need not keep",
    load: () => import("./commands/gc.ts"),
  },
  {
    name: "upstream add",
    summary: "Define a cache that views may fall back to",
    load: () => import("./commands/upstream-add.ts"),
  },
  {
    name: "upstream list",
    summary: "List the caches that views may fall back to",
    load: () => import("./commands/upstream-list.ts"),
  },
  {
    name: "upstream test",
    summary: "Let the server ask an upstream now, and say what is wrong",
    load: () => import("./commands/upstream-test.ts"),
  },
  {
    name: "upstream configure",
    summary: "Change an upstream",
    load: () => import("./commands/upstream-configure.ts"),
  },
  {
    name: "upstream use",
    summary: "Say which upstreams a view falls back to",
    load: () => import("./commands/upstream-use.ts"),
  },
  {
    name: "upstream remove",
    summary: "Take an upstream from all views, with what was fetched from it",
    load: () => import("./commands/upstream-remove.ts"),
  },
  {
    name: "warm",
    summary: "Fetch closures from a view's upstreams before they are needed",
    load: () => import("./commands/warm.ts"),
  },
  {
    name: "key list",
    summary: "Show the keys that sign a view",
    load: () => import("./commands/key-list.ts"),
  },
  {
    name: "key rotate",
    summary: "Sign a view with a new key beside the old ones",
    load: () => import("./commands/key-rotate.ts"),
  },
  {
    name: "key retire",
    summary: "Stop signing a view with a key",
    load: () => import("./commands/key-retire.ts"),
  },
  {
    name: "token create",
    summary: "Make a token that allows what you say",
    load: () => import("./commands/token-create.ts"),
  },
  {
    name: "token inspect",
    summary: "Show what a token says",
    load: () => import("./commands/token-inspect.ts"),
  },
  {
    name: "token revoke",
    summary: "Make a token worthless at once",
    load: () => import("./commands/token-revoke.ts"),
  },
  {
    name: "policy check",
    summary: "Tell what is wrong with a trust policy",
    load: () => import("./commands/policy-check.ts"),
  },
  {
    name: "policy explain",
    summary: "Tell what a policy gives to a job, why, and what would change it",
    load: () => import("./commands/policy-explain.ts"),
  },
  {
    name: "audit path",
    summary: "Show who wrote a store path, and who read it",
    load: () => import("./commands/audit-path.ts"),
  },
  {
    name: "audit action",
    summary: "Show who wrote an ActionResult of Bazel's, and who was given it",
    load: () => import("./commands/audit-action.ts"),
  },
  {
    name: "audit blob",
    summary: "Show who wrote a blob of Bazel's",
    load: () => import("./commands/audit-blob.ts"),
  },
  {
    name: "audit document",
    summary: "Show who wrote a build log, a realisation or another document of Nix's",
    load: () => import("./commands/audit-document.ts"),
  },
  {
    name: "commons explain",
    summary: "Tell why a store path is in the commons, or is not",
    load: () => import("./commands/commons-explain.ts"),
  },
  {
    name: "revoke",
    summary: "Undo all that a run, a principal or a token wrote",
    load: () => import("./commands/revoke.ts"),
  },
  {
    name: "unquarantine",
    summary: "Take a revocation back",
    load: () => import("./commands/unquarantine.ts"),
  },
  {
    name: "scrub",
    summary: "Check every stored object, and name the bad ones",
    load: () => import("./commands/scrub.ts"),
  },
  {
    name: "doctor nix",
    summary: "Tell whether this machine's Nix would use a view, and if not, why",
    load: () => import("./commands/doctor-nix.ts"),
  },
  {
    name: "doctor bazel",
    summary: "Tell whether this machine's Bazel would use a view, and if not, why",
    load: () => import("./commands/doctor-bazel.ts"),
  },
  {
    name: "credential-helper",
    summary: "Give Bazel the token for a server, in its own protocol",
    load: () => import("./commands/credential-helper.ts"),
  },
  {
    name: "completion",
    summary: "Print a completion script for your shell",
    load: () => import("./commands/completion.ts"),
  },
];

/** What the groups of commands are about. */
export const COMMAND_GROUPS: Readonly<Record<string, string>> = {
  view: "Views: the logical caches of a server",
  overlay: "Overlays: what branches and pull requests write to",
  path: "Single store paths in a view",
  key: "Signing keys: what clients of a view trust",
  token: "Tokens: who may do what",
  upstream: "Upstreams: the caches that views fall back to",
  audit: "Provenance: who wrote and read what",
  commons: "The commons: what tenants built alike",
  policy: "Trust policies: which job may read and write what",
  doctor: "Examinations: what is wrong, why, and what helps",
};

/** Loads every command, for completion and documentation. */
export async function loadCommands(): Promise<Command[]> {
  const modules = await Promise.all(COMMAND_TABLE.map(async (entry) => entry.load()));
  return modules.map((module) => module.command);
}
