import type { AnsweredRequest } from "../http/request-handler.ts";
import type { ViewLatencies } from "./view-latencies.ts";

/** Prometheus keeps a series for each bound of each. */
const MAX_NAMED_VIEWS = 200;
/** Our own routes that take data in; the others of that family manage. */
const OWN_WRITES = /^\/_flywheel\/v1\/views\/:view\/(?:nars|uploads|closures)\b/;

/** Notes how long a request for a view's data took. */
export function observeRequest(latencies: ViewLatencies, request: AnsweredRequest): void {
  const { view, method, route, family, durationMs } = request;
  if (view === undefined) return;
  const isRead = method === "GET" || method === "HEAD" || method === "PROPFIND";
  const isData =
    route.startsWith("/:view/") ||
    route === "/_api/v1/upload-path" ||
    (!isRead && OWN_WRITES.test(route));
  if (!isData) return;
  // Only what was answered well tells that there is such a view; then a miss counts as well.
  const latency = request.status < 400 ? latencies.of(view) : latencies.find(view);
  const plane = family === "bazel" ? latency?.bazel : latency?.nix;
  plane?.[isRead ? "read" : "write"].observe(durationMs);
}

/** The busiest views' latencies in the text format of Prometheus. */
export function renderViewLatencies(latencies: ViewLatencies): string {
  const name = "flywheel_view_request_seconds";
  const lines = [
    `# HELP ${name} Time that requests for a view's data took, by view, plane (nix, bazel) and direction.`,
    `# TYPE ${name} histogram`,
  ];
  for (const [view, latency] of latencies.busiest(MAX_NAMED_VIEWS)) {
    for (const plane of ["nix", "bazel"] as const) {
      for (const direction of ["read", "write"] as const) {
        const histogram = latency[plane][direction];
        if (histogram.count === 0) continue;
        const labels = `view="${view}",plane="${plane}",direction="${direction}"`;
        for (const [bound, count] of histogram.cumulated()) {
          lines.push(`${name}_bucket{${labels},le="${bound}"} ${count}`);
        }
        lines.push(`${name}_sum{${labels}} ${histogram.seconds}`);
        lines.push(`${name}_count{${labels}} ${histogram.count}`);
      }
    }
  }
  return `${lines.join("\n")}\n`;
}
