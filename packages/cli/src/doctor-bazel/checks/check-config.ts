import { formatBazelRelease, isGrpc, toHttpUrl } from "@glorious/cache-client";

import { type RcOption, readRcText } from "../../bazel-config/rc-file.ts";
import { failure, ok, skipped, type Verdict, warning } from "../../doctor/finding.ts";
import { reasonOf, valueOf } from "../../doctor/probe.ts";
import { optionOf, placeOf, useCommand } from "../facts.ts";
import type { Snapshot } from "../snapshot.ts";

/** There is a Bazel, and one whose options are known. */
export function checkBazel({ bazel }: Snapshot): Verdict {
  const { release, command } = bazel;
  if (release.state === "known") return ok(`Bazel ${formatBazelRelease(release.value)}`);
  const problem = reasonOf(release);
  const isOld = /is older than/.test(problem);
  return failure(
    isOld ? problem : `Bazel does not tell its version: ${problem}`,
    isOld
      ? "It lacks the options that make a build go on without the cache."
      : "Without it nobody knows which options it takes.",
    isOld
      ? `${command} --version`
      : /does not say/.test(problem)
        ? "flywheel doctor bazel --bazel-version 7.7.1"
        : "flywheel doctor bazel --bazel /path/to/bazel",
  );
}

/** One of the files that Bazel reads brings ours in. */
export function checkImport(snapshot: Snapshot): Verdict {
  const { rc, target } = snapshot;
  const { userRc, ownRcPath, ownRc, isImported, reading } = rc;
  if (reading.problem !== undefined) {
    return failure(
      `${reading.problem}, which is not there or makes a circle`,
      "Bazel refuses to run.",
      `${snapshot.bazel.command} build --nobuild --announce_rc`,
    );
  }
  if (isImported && ownRc !== undefined) return ok(`Bazel reads ${ownRcPath}`);
  const byHand = optionOf(snapshot, "remote_cache");
  if (byHand !== undefined && isOurs(byHand.value, target.server)) {
    return ok(`${placeOf(byHand)} names the cache, without \`flywheel use bazel\``);
  }
  return failure(
    isImported
      ? `${ownRcPath} is missing, though a file of Bazel's brings it in`
      : `no file of Bazel's brings ${ownRcPath} in`,
    isImported
      ? "try-import takes that for nothing to do: Bazel builds without the cache."
      : `Bazel read ${reading.files.join(" ") || "no file at all"}; the line belongs into ${userRc}.`,
    useCommand(target),
  );
}

/** Our file is what `use bazel` would write for this Bazel and this server. */
export function checkRcFile({ rc, target, bazel }: Snapshot): Verdict {
  const { ownRc, ownRcPath, wanted } = rc;
  if (ownRc === undefined) return skipped(`${ownRcPath} is not there`);
  if (wanted.state !== "known") return skipped(reasonOf(wanted));
  const write = (option: RcOption): string => `--${option.name}=${option.value}`;
  const present = readRcText(ownRc, ownRcPath).map(write);
  const right = readRcText(wanted.value, ownRcPath).map(write);
  const excess = present.filter((option) => !right.includes(option));
  const missing = right.filter((option) => !present.includes(option));
  if (excess.length === 0 && missing.length === 0) return ok(`${ownRcPath} is up to date`);
  const rightNames = new Set(right.map((option) => option.replace(/=.*/, "")));
  const unknown = excess.filter((option) => !rightNames.has(option.replace(/=.*/, "")));
  const release = valueOf(bazel.release);
  // What a newer Bazel knows ends the builds of an older one.
  const isFatal =
    release !== undefined &&
    release.major < 7 &&
    unknown.some((option) =>
      /^--(credential_helper|experimental_circuit|remote_retry_max)/.test(option),
    );
  if (isFatal) {
    return failure(
      `${ownRcPath} has options that Bazel ${release.major} does not know: ${unknown.join(" ")}`,
      "It was written for a newer Bazel, and this one refuses to build with it.",
      useCommand(target),
    );
  }
  return warning(
    `${ownRcPath} is not what \`flywheel use bazel\` would write now`,
    [
      missing.length === 0 ? "" : `It lacks ${missing.join(" ")}.`,
      excess.length === 0 ? "" : `It has ${excess.join(" ")}.`,
    ]
      .filter((sentence) => sentence !== "")
      .join(" "),
    useCommand(target),
  );
}

/** Whether an address is the server's. Its ports may differ, one for each protocol. */
function isOurs(remoteCache: string, server: string): boolean {
  if (remoteCache === "") return false;
  const url = toHttpUrl(remoteCache);
  const other = new URL(server);
  return url.hostname === other.hostname && (isGrpc(remoteCache) || url.port === other.port);
}
