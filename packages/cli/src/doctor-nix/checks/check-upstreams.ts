import type { ViewUpstreams } from "@glorious/cache-client";
import { formatDurationMs } from "@glorious/core";

import { failure, ok, skipped, type Verdict, warning } from "../../doctor/finding.ts";
import { reasonOf, valueOf } from "../../doctor/probe.ts";
import { describeReads, findUnsigned } from "../../view-upstreams.ts";
import { readerOf } from "../reader.ts";
import type { Snapshot } from "../snapshot.ts";
import { isSameSubstituter } from "../substituter-url.ts";
import { useCommand } from "./check-substituter.ts";
import { readKeyList, readTrustedKeys } from "./trusted-keys.ts";

/** Faults of longer ago say nothing about now. */
const RECENT_SECONDS = 3600;
/** What it says when its key is not the one that the server was given. */
const KEY_FAULTS: ReadonlySet<string> = new Set(["other-key", "wrong-signature", "unsigned"]);

/** How it goes with the caches that the view falls back to. */
export function checkUpstreams(snapshot: Snapshot): Verdict {
  const reading = upstreamsOf(snapshot);
  if (typeof reading === "string") return skipped(reading);
  const chain = describeReads(reading);
  const reads = chain === "" ? "the view" : `what is read is ${chain}: it`;
  if (reading.asked.length === 0) return ok(`${reads} falls back to no other cache`);
  const sick = reading.asked.flatMap(({ name, state, lastFault }) => {
    if (lastFault === undefined || lastFault.secondsAgo > RECENT_SECONDS) {
      return state === "resting" ? [{ name, said: `${name} is left alone` }] : [];
    }
    const { reason, secondsAgo } = lastFault;
    const resting = state === "resting" ? "is left alone since it failed" : "failed lately";
    const age = formatDurationMs(secondsAgo * 1000);
    return [{ name, said: `${name} ${resting}: ${describeFault(reason)}, ${age} ago` }];
  });
  const [first] = sick;
  if (first === undefined) {
    return ok(`${reads} falls back to ${reading.asked.map(({ name }) => name).join(", ")}`);
  }
  return warning(
    sick.map(({ said }) => said).join("; "),
    "What it alone has is a miss meanwhile; what was fetched before is served.",
    `flywheel upstream test ${first.name}${snapshot.target.serverFlag}`,
  );
}

/** Nix believes what comes from there. */
export function checkUpstreamKeys(snapshot: Snapshot): Verdict {
  const { nix, user, target } = snapshot;
  const reading = upstreamsOf(snapshot);
  if (typeof reading === "string") return skipped(reading);
  if (reading.asked.length === 0) return skipped("the view falls back to no other cache");
  const unsigned = findUnsigned(reading);
  if (unsigned.length === 0) return ok("the view's own key signs what its upstreams have");
  const reader = readerOf(nix, user);
  if (reader === undefined) return skipped("Nix's settings are unknown");
  const trusted = readTrustedKeys(reader.trustedPublicKeys);
  const strange = unsigned.filter(({ publicKeys }) =>
    publicKeys
      .flatMap((key) => readKeyList(key))
      .every(
        (key) => !trusted.some((each) => each.name === key.name && each.bytes.equals(key.bytes)),
      ),
  );
  if (strange.length === 0) return ok("the keys of the upstreams are trusted");
  return failure(
    `no key of ${strange.map(({ name }) => name).join(", ")} is trusted`,
    "Nix refuses the paths that the view has from there, as it lacks a signature it trusts.",
    useCommand(target, reader),
  );
}

/** Nix asks no cache that the view asks for it. */
export function checkOneSubstituter(snapshot: Snapshot): Verdict {
  const { nix, user } = snapshot;
  const reading = upstreamsOf(snapshot);
  if (typeof reading === "string") return skipped(reading);
  const reader = readerOf(nix, user);
  if (reader === undefined) return skipped("Nix's settings are unknown");
  const twice = reading.asked.filter(({ url }) =>
    reader.substituters.some((address) => isSameSubstituter(address, url)),
  );
  if (twice.length === 0) return ok("Nix asks no cache that the view falls back to");
  const urls = twice.map(({ url }) => url.replace(/\/$/, "")).join(" ");
  return warning(
    `Nix asks ${urls} as well, which the view falls back to`,
    "Each miss costs a question there, and builds fail with it when it does: one substituter is enough.",
    `grep -rn -e ${new URL(twice[0]?.url ?? urls).host} /etc/nix ~/.config/nix`,
  );
}

function upstreamsOf({ server }: Snapshot): ViewUpstreams | string {
  const { config } = server;
  if (config.state !== "known") return reasonOf(config);
  return valueOf(config)?.upstreams ?? "this server has no upstreams";
}

function describeFault(reason: string): string {
  return KEY_FAULTS.has(reason)
    ? `it is not signed by the key that the server was given (${reason})`
    : reason;
}
