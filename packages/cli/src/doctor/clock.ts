import { formatDurationMs } from "@glorious/core";

import type { Answer } from "./answer.ts";
import { ok, skipped, type Verdict, warning } from "./finding.ts";

/** The server tolerates a minute; half of it is time to say something. */
const TOLERATED_MS = 30_000;

/** How far the server's clock is ahead of ours, in milliseconds; `undefined` when it does not tell. */
export function clockSkewMs(answer: Answer | undefined): number | undefined {
  if (answer?.dateMs === undefined) return undefined;
  // The header has whole seconds, cut: on average the time is half a second later.
  const skewMs = answer.dateMs + 500 - answer.atMs;
  return Math.abs(skewMs) <= 1000 ? 0 : skewMs;
}

/** Both clocks agree, or tokens and certificates expire too early or too late. */
export function checkClock(answer: Answer | undefined): Verdict {
  const skewMs = clockSkewMs(answer);
  if (skewMs === undefined) return skipped("the server does not tell the time");
  const apart = formatDurationMs(Math.abs(skewMs));
  if (Math.abs(skewMs) <= TOLERATED_MS) return ok("this clock and the server's agree");
  return warning(
    `the server's clock is ${apart} ${skewMs > 0 ? "ahead of" : "behind"} this machine's`,
    "Tokens and certificates expire, or begin, at another time than it seems here.",
    "sudo timedatectl set-ntp true",
  );
}
