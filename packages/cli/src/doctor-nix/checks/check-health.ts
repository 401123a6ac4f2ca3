import { failure, ok, skipped, type Verdict } from "../../doctor/finding.ts";
import { reasonOf, valueOf } from "../../doctor/probe.ts";
import type { Snapshot } from "../snapshot.ts";

/** The server's own view of itself. */
export function checkHealth({ server, target }: Snapshot): Verdict {
  const { readiness } = server;
  const kind = valueOf(server.config)?.kind;
  if (readiness.state !== "known") return skipped(reasonOf(readiness));
  const { status, body } = readiness.value;
  if (status === 200) return ok("the server says it is ready");
  if (status === 404 || kind === "attic") return skipped("this server has no /readyz");
  return failure(
    `the server says it is not ready (${status})`,
    describeParts(body) ?? "It does not say why.",
    `curl -s ${target.server}readyz`,
  );
}

function describeParts(body: string): string | undefined {
  try {
    const { store, index } = JSON.parse(body) as Readonly<Record<string, unknown>>;
    const parts = Object.entries({ store, index }).filter(
      ([, state]) => typeof state === "string" && state !== "ok",
    );
    const words = parts.map(([name, state]) => `${name}: ${String(state)}`);
    return words.length === 0 ? undefined : `${words.join("; ")}.`;
  } catch {
    return undefined;
  }
}
