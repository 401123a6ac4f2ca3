import { failure, ok, skipped, type Verdict, warning } from "../../doctor/finding.ts";
import { reasonOf, valueOf } from "../../doctor/probe.ts";
import { readerOf } from "../reader.ts";
import type { Snapshot } from "../snapshot.ts";

/** Nix is there and new enough to read what the cache stores. */
export function checkNix({ nix }: Snapshot): Verdict {
  if (nix.version.state !== "known") {
    return failure(
      `Nix does not run: ${reasonOf(nix.version)}`,
      "Without Nix there is nothing that could use the cache.",
      nix.command === "nix" ? "sudo apt-get install nix-bin" : `ls -l ${nix.command}`,
    );
  }
  const version = nix.version.value;
  const [major = 0, minor = 0] = version.split(".").map((part) => Number.parseInt(part, 10));
  if (major < 2 || (major === 2 && minor < 4)) {
    return failure(
      `Nix ${version} cannot read this cache`,
      "NARs are stored as zstd, which Nix reads from 2.4 on.",
      "nix upgrade-nix",
    );
  }
  return ok(`Nix ${version}`);
}

/** Nix's configuration can be read at all. */
export function checkSettings({ nix, user }: Snapshot): Verdict {
  const { settings } = nix;
  if (settings.state === "skipped") return skipped(settings.reason);
  if (settings.state === "failed") {
    return failure(
      `Nix does not tell its settings: ${settings.problem}`,
      "A line of nix.conf that Nix refuses stops every command.",
      "nix --extra-experimental-features nix-command show-config",
    );
  }
  const reader = readerOf(nix, user);
  if (reader?.substitute === false) {
    return failure(
      "Nix is told never to substitute: substitute = false",
      "Every path is built here, whatever the caches have.",
      "NIX_CONFIG='substitute = true' nix-build",
    );
  }
  return ok("Nix tells its settings, and substitutes");
}

/** Who substitutes: this user, or a daemon that may not heed what the user configured. */
export function checkTrust({ nix, user, target }: Snapshot): Verdict {
  const { store } = nix;
  if (store.state === "skipped") return skipped(store.reason);
  if (store.state === "failed") {
    return failure(
      `Nix cannot open its store: ${store.problem}`,
      "The daemon does not run, or the store belongs to somebody else.",
      "sudo systemctl restart nix-daemon",
    );
  }
  const reader = readerOf(nix, user);
  if (reader === undefined) return skipped("the settings in force are unknown");
  if (reader.kind === "user") {
    return ok(`no daemon: Nix substitutes as you, ${describeUser(user.name)}`);
  }
  if (reader.isTrusted) {
    return ok(`the daemon substitutes, and trusts you, ${describeUser(user.name)}`);
  }
  const trusted = valueOf(nix.systemSettings)?.trustedUsers.join(" ") ?? "";
  return warning(
    `the daemon does not trust you, ${describeUser(user.name)}`,
    `Its trusted-users are: ${trusted}. It ignores keys, a netrc file and new substituters of anybody else.`,
    `sudo flywheel use --system ${target.view}${target.serverFlag}`,
  );
}

function describeUser(name: string): string {
  return name === "" ? "a user without a name" : name;
}
