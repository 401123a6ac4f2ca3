import { failure, ok, skipped, type Verdict, warning } from "../../doctor/finding.ts";
import { matchNetrc } from "../../doctor/netrc-match.ts";
import { reasonOf, valueOf } from "../../doctor/probe.ts";
import { netrcHost } from "../../user-files/netrc.ts";
import { readerOf } from "../reader.ts";
import type { Snapshot } from "../snapshot.ts";
import { useCommand } from "./check-substituter.ts";

/** The netrc file is there, and readable by whoever substitutes. */
export function checkNetrcFile(snapshot: Snapshot): Verdict {
  const { netrc, nix, user, target } = snapshot;
  const reader = readerOf(nix, user);
  if (reader === undefined) return skipped("Nix's settings are unknown");
  const { path, entries, mode } = netrc;
  const needsOne = needsToken(snapshot);
  if (path === undefined || mode === undefined) {
    if (entries.state === "failed" && reader.kind === "daemon") {
      return skipped(`only root may look for ${path}: run this with sudo`);
    }
    const message = path === undefined ? "Nix reads no netrc file" : reasonOfMissing(entries, path);
    if (!needsOne) return ok(`${message}; the view is public and needs none`);
    return failure(
      message,
      "The view is private, and Nix finds its token nowhere else.",
      useCommand(target, reader),
    );
  }
  if (entries.state !== "known") {
    // The daemon runs as root and reads what is closed to this user.
    if (reader.kind === "daemon") {
      return ok(
        `${path} is root's alone, which is right for a daemon; run this with sudo to see more`,
      );
    }
    return failure(
      `you may not read the netrc file ${path}`,
      `Its rights are ${mode.toString(8)}, and without a daemon Nix reads it as you.`,
      `sudo chown "$USER" ${path}`,
    );
  }
  const isOpen = (mode & 0o077) !== 0;
  const holdsTokens = entries.value.some(({ password }) => password !== undefined);
  if (!isOpen || !holdsTokens) return ok(`${path} can be read`);
  return warning(
    `other users of this machine can read the tokens in ${path}`,
    `Its rights are ${mode.toString(8)}.`,
    `chmod go-rwx ${path}`,
  );
}

/** The netrc file has an entry that curl sends to this host. */
export function checkNetrcEntry(snapshot: Snapshot): Verdict {
  const { netrc, nix, user, target } = snapshot;
  if (netrc.entries.state !== "known") return skipped("the netrc file was not read");
  const host = netrcHost(target.substituter);
  const entries = netrc.entries.value;
  const { used, hidden, withPort } = matchNetrc(entries, host);
  const command = useCommand(target, readerOf(nix, user));
  if (used?.password === undefined) {
    if (!needsToken(snapshot)) return ok(`no entry for ${host}; the view is public and needs none`);
    const [wrong] = withPort;
    const others = entries.map((entry) => entry.host ?? "default");
    return failure(
      used === undefined
        ? `${netrc.path} has no entry for ${host}`
        : `the entry for ${host} in ${netrc.path} line ${used.line} has no password`,
      wrong !== undefined
        ? `Line ${wrong.line} names ${wrong.host}, but netrc knows hosts without ports: it matches nothing.`
        : used === undefined
          ? `It has entries for ${others.join(" ") || "nobody"}. Nix sends no token, and the view is private.`
          : "The token belongs there.",
      command,
    );
  }
  const [other] = hidden;
  if (other === undefined) {
    return ok(`line ${used.line} of ${netrc.path} is for ${used.host ?? "any host"}`);
  }
  return warning(
    `${netrc.path} has several tokens for ${host}: Nix sends the one of line ${used.line}`,
    `netrc knows no ports, so two servers on one host share one entry; that of line ${other.line} is never used.`,
    command,
  );
}

/** Whether the view is not, or not known to be, open for everybody. */
export function needsToken({ server }: Pick<Snapshot, "server">): boolean {
  return valueOf(server.config)?.config.isPublic !== true;
}

/** The token that Nix sends. Secret. */
export function tokenOf({ netrc, target }: Pick<Snapshot, "netrc" | "target">): string | undefined {
  const entries = valueOf(netrc.entries) ?? [];
  return matchNetrc(entries, netrcHost(target.substituter)).used?.password;
}

function reasonOfMissing(entries: Snapshot["netrc"]["entries"], path: string): string {
  return entries.state === "known" ? path : `there is no netrc file: ${reasonOf(entries)}`;
}
