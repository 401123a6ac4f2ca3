import { failure, ok, skipped, type Verdict } from "../../doctor/finding.ts";
import type { Snapshot } from "../snapshot.ts";

/** What nobody wrote is a miss, not an error. */
export function checkMiss({ trip, target }: Snapshot): Verdict {
  const { miss } = trip;
  if (miss.state === "skipped") return skipped(miss.reason);
  if (miss.state === "known") return ok("what the cache does not have is a miss");
  return failure(
    `what the cache does not have is no miss: ${miss.problem}`,
    "Bazel warns of each such answer, and repeats many of them.",
    `curl -s ${target.server}readyz`,
  );
}

/** A blob comes back as it was. */
export function checkBlob({ trip, target }: Snapshot): Verdict {
  const { blob } = trip;
  if (blob.state === "skipped") return skipped(blob.reason);
  if (blob.state === "known") return ok(`${blob.value} bytes were written, and read the same`);
  return failure(
    `a blob cannot be written and read again: ${blob.problem}`,
    "Bazel builds on, but gives nothing to the cache.",
    `flywheel view stats ${target.view}${target.serverFlag}`,
  );
}

/** An ActionResult comes back as it was. */
export function checkActionResult({ trip, target }: Snapshot): Verdict {
  const { actionResult } = trip;
  if (actionResult.state === "skipped") return skipped(actionResult.reason);
  if (actionResult.state === "known") return ok("an ActionResult was written, and read the same");
  return failure(
    `an ActionResult cannot be written and read again: ${actionResult.problem}`,
    "Bazel builds on, but gives nothing to the cache.",
    `flywheel view stats ${target.view}${target.serverFlag}`,
  );
}
