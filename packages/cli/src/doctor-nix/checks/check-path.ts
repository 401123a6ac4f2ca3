import { formatHash } from "@glorious/nix-store";

import { failure, ok, skipped, type Verdict } from "../../doctor/finding.ts";
import { reasonOf, valueOf } from "../../doctor/probe.ts";
import { readCacheInfo } from "../read-cache-info.ts";
import type { Snapshot } from "../snapshot.ts";

/** The cache is for a store in the same folder. */
export function checkStoreDir({ nix, server, target }: Snapshot): Verdict {
  const { cacheInfo } = server;
  if (cacheInfo.state !== "known") return skipped(reasonOf(cacheInfo));
  if (cacheInfo.value.status !== 200) return skipped("the cache does not let Nix in");
  let storeDir: string;
  try {
    ({ storeDir } = readCacheInfo(cacheInfo.value));
  } catch (error) {
    return failure(
      "the cache's nix-cache-info makes no sense",
      `${error instanceof Error ? error.message : String(error)}.`,
      `curl -s ${target.substituter}/nix-cache-info`,
    );
  }
  if (storeDir === nix.storeDir) return ok(`both stores are ${storeDir}`);
  return failure(
    `the view is for stores in ${storeDir}, this machine's is ${nix.storeDir}`,
    "Store paths carry the folder in their hash, so Nix refuses the whole cache.",
    "flywheel view list",
  );
}

/** A path's narinfo comes and can be read. */
export function checkNarInfo({ path, target }: Snapshot): Verdict {
  const { narInfo } = path;
  if (narInfo.state === "known") return ok(`the view has ${narInfo.value.storePath}`);
  if (narInfo.state === "skipped") return skipped(narInfo.reason);
  const named = valueOf(path.storePath);
  return failure(
    `no usable narinfo: ${narInfo.problem}`,
    "What the cache has no good narinfo of, Nix builds.",
    named === undefined
      ? `curl -v ${target.substituter}/nix-cache-info`
      : `flywheel push --view ${target.view} ${named}${target.serverFlag}`,
  );
}

/** The path's NAR comes whole and is what the narinfo says. */
export function checkNar({ path, target }: Snapshot): Verdict {
  const narInfo = valueOf(path.narInfo);
  if (path.nar.state === "skipped" || narInfo === undefined) {
    return skipped(path.nar.state === "skipped" ? path.nar.reason : "there is no narinfo");
  }
  const again = `flywheel path delete --view ${target.view} ${narInfo.storePath}${target.serverFlag} && flywheel push --view ${target.view} ${narInfo.storePath}${target.serverFlag}`;
  if (path.nar.state === "failed") {
    return failure(
      `the NAR of ${narInfo.storePath} does not come: ${path.nar.problem}`,
      "Nix fails the build when a NAR is missing behind its narinfo.",
      `curl -v -o /dev/null ${target.substituter}/${narInfo.url}`,
    );
  }
  const { status, refusal, fileSize, fileHash, transferProblem, contents } = path.nar.value;
  if (status !== 200) {
    return failure(
      `the NAR of ${narInfo.storePath} is answered with ${status}`,
      `${refusal ?? "The server does not say why"}. Nix fails the build when a NAR is missing behind its narinfo.`,
      again,
    );
  }
  const damaged = `the NAR of ${narInfo.storePath} is damaged`;
  if (transferProblem !== undefined) {
    return failure(damaged, `It broke off after ${fileSize} bytes: ${transferProblem}.`, again);
  }
  if (narInfo.fileSize !== undefined && narInfo.fileSize !== fileSize) {
    return failure(damaged, `${fileSize} bytes came, the narinfo says ${narInfo.fileSize}.`, again);
  }
  if (narInfo.fileHash?.algorithm === "sha256") {
    const wanted = formatHash(narInfo.fileHash, "base16");
    if (wanted !== `sha256:${fileHash}`) {
      return failure(damaged, `Its hash is sha256:${fileHash}, the narinfo says ${wanted}.`, again);
    }
  }
  if (contents === undefined) return ok(`${fileSize} bytes came as the narinfo says`);
  if ("problem" in contents) {
    return failure(damaged, `It does not decompress: ${contents.problem}.`, again);
  }
  const wanted = formatHash(narInfo.narHash, "base16");
  if (contents.narSize !== narInfo.narSize || wanted !== `sha256:${contents.narHash}`) {
    return failure(
      damaged,
      `Decompressed it is ${contents.narSize} bytes of sha256:${contents.narHash}, the narinfo says ${narInfo.narSize} of ${wanted}.`,
      again,
    );
  }
  return ok(`${fileSize} bytes came, ${contents.narSize} unpacked, size and hash are right`);
}

/** Nix itself verifies the path in the cache. */
export function checkVerify({ path, target }: Snapshot): Verdict {
  const { verify } = path;
  if (verify.state !== "known") return skipped(reasonOf(verify));
  const { exitCode, said } = verify.value;
  if (exitCode === 0) return ok("Nix itself fetched and verified the path");
  // `nix store verify`: 1 is damaged, 2 untrusted, 4 failed; they add up.
  const reason =
    exitCode === 2
      ? "no signature that it trusts"
      : exitCode === 1 && said === ""
        ? "the NAR is damaged"
        : said;
  return failure(
    `Nix itself does not take the path from the cache: ${reason}`,
    "This is the machine's own Nix, with its own settings and an empty memory of narinfos.",
    `nix --extra-experimental-features nix-command store verify --store ${target.substituter} ${valueOf(path.storePath)}`,
  );
}
