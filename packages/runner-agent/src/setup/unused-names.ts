import { parseServerUrl } from "@glorious/cache-client";

import type { EarlierSession } from "./earlier-session.ts";
import type { SetupRequest } from "./setup-request.ts";

/** What a step names, and the session that its job has already does not use: a server's address, or names of views. */
export function findUnused(
  { serverUrl, view, extraViews }: Pick<SetupRequest, "serverUrl" | "view" | "extraViews">,
  { settings, report }: Pick<Extract<EarlierSession, { kind: "running" }>, "settings" | "report">,
): readonly string[] {
  if (serverUrl !== undefined && parseServerUrl(serverUrl).href !== settings.server) {
    return [serverUrl];
  }
  // Nobody knows yet what is used.
  if (settings.address === undefined) return [];
  // Who names a view may have been given a layer over it.
  const [base] = settings.view.split("_");
  const used = new Set([settings.view, base, settings.write, ...report.result.extraCaches]);
  return [view, ...extraViews].flatMap((name) =>
    name === undefined || used.has(name) ? [] : [name],
  );
}
