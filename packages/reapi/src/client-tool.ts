import { type BinaryHeaders, readRequestMetadata } from "./request-metadata.ts";

/** The oldest release that was seen to build on when it may not upload. */
const FIRST_THAT_GOES_ON = 7;

/**
 * Whether the client is a Bazel that ends the build when it hears that it may not upload, as 4.2 does where
 * `--remote_upload_local_results` is on, its default. It is told that it may: what it then uploads is refused, which it
 * takes as a warning. A Bazel that does not say its release is taken for an old one.
 */
export function failsWithoutUpdates(headers: BinaryHeaders): boolean {
  const toolDetails = readRequestMetadata(headers)?.toolDetails;
  if (toolDetails?.toolName !== "bazel") return false;
  const major = /(\d+)\./.exec(toolDetails.toolVersion)?.[1];
  return major === undefined || Number(major) < FIRST_THAT_GOES_ON;
}
