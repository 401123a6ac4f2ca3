import { isCacheError } from "@glorious/core";
import {
  buildTraceFingerprint,
  formatRealisationId,
  parseBuildTraceEntry,
  parseBuildTraceKey,
  parsePublicKey,
  parseRealisation,
  realisationFingerprint,
  verifySignature,
} from "@glorious/nix-store";

/** Whether the text of `realisations/<name>.doi` is about that name and signed by one of the keys. */
export function isSignedRealisation(
  body: Buffer,
  name: string,
  publicKeys: readonly string[],
): boolean {
  return isRight(() => {
    const realisation = parseRealisation(body.toString("utf8"));
    if (formatRealisationId(realisation.id) !== name) return false;
    return isSigned(realisationFingerprint(realisation), realisation.signatures, publicKeys);
  });
}

/** The same of `build-trace-v2/<derivation>/<output>.doi`. */
export function isSignedBuildTrace(
  body: Buffer,
  name: string,
  publicKeys: readonly string[],
): boolean {
  return isRight(() => {
    const [drvPath = "", outputName = ""] = name.split("/");
    const entry = parseBuildTraceEntry(body.toString("utf8"));
    const fingerprint = buildTraceFingerprint(parseBuildTraceKey(drvPath, outputName), entry);
    return isSigned(fingerprint, entry.signatures, publicKeys);
  });
}

function isSigned(
  fingerprint: string,
  signatures: readonly string[],
  publicKeys: readonly string[],
): boolean {
  const keys = publicKeys.map(parsePublicKey);
  return signatures.some((signature) => verifySignature(keys, fingerprint, signature));
}

/** What cannot be read is not right. */
function isRight(check: () => boolean): boolean {
  try {
    return check();
  } catch (error) {
    if (isCacheError(error)) return false;
    throw error;
  }
}
