import { failure, ok, skipped, type Verdict, warning } from "../../doctor/finding.ts";
import { reasonOf, valueOf } from "../../doctor/probe.ts";
import { type Reader, readerOf } from "../reader.ts";
import type { Snapshot, Target } from "../snapshot.ts";
import { isSameSubstituter, normalizeSubstituter } from "../substituter-url.ts";

/** The view is among the substituters of whoever substitutes. */
export function checkSubstituter({ nix, user, target }: Snapshot): Verdict {
  const reader = readerOf(nix, user);
  const own = valueOf(nix.settings);
  if (reader === undefined || own === undefined) return skipped("Nix's settings are unknown");
  const isOurs = (address: string): boolean => isSameSubstituter(address, target.substituter);
  if (reader.substituters.some(isOurs)) return ok(`${target.substituter} is a substituter`);
  if (own.substituters.some(isOurs)) {
    return failure(
      `the daemon ignores ${target.substituter}: you are not a trusted user`,
      "You configured it, but an untrusted user may only choose among the machine's own substituters and trusted-substituters.",
      useCommand(target, reader),
    );
  }
  const namesake = own.substituters.find(
    (address) => pathOf(address) === pathOf(target.substituter),
  );
  return failure(
    `${target.substituter} is not among the substituters`,
    namesake === undefined
      ? `Nix asks ${own.substituters.map(normalizeSubstituter).join(" ") || "no cache at all"}.`
      : `Nix asks ${normalizeSubstituter(namesake)}, which is the same view at another address.`,
    useCommand(target, reader),
  );
}

/** How early Nix asks the view. */
export function checkPriority({ server, target }: Snapshot): Verdict {
  const own = server.priorities.get(normalizeSubstituter(target.substituter));
  if (own === undefined) return skipped("Nix does not ask it");
  if (own.state !== "known") return skipped(reasonOf(own));
  const all = [...server.priorities];
  const earlier = all.filter(([, other]) => (valueOf(other) ?? Infinity) < own.value);
  const silent = all.filter(([, other]) => other.state === "failed").map(([address]) => address);
  const place = `asked ${earlier.length + 1}. of ${all.length}, priority ${own.value}`;
  if (silent.length > 0) {
    return warning(
      `${place}; no answer from ${silent.join(" ")}`,
      "Nix waits for a substituter that does not answer, for each of them and again and again.",
      `curl -sSI ${silent[0]}/nix-cache-info`,
    );
  }
  const before = earlier.map(([address, other]) => `${address} (${valueOf(other)})`);
  return ok(before.length === 0 ? place : `${place}, after ${before.join(", ")}`);
}

/** The command that configures Nix for the view, for whoever substitutes. */
export function useCommand({ view, serverFlag }: Target, reader: Reader | undefined): string {
  const isSystem = reader?.kind === "daemon" && !reader.isTrusted;
  return `${isSystem ? "sudo flywheel use --system" : "flywheel use"} ${view}${serverFlag}`;
}

function pathOf(address: string): string | undefined {
  return URL.parse(address)?.pathname.replace(/\/+$/, "");
}
