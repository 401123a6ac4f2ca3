import type { Route } from "../http/router.ts";
import { atticConfigRoutes } from "./attic-config.ts";
import { atticPushRoutes } from "./attic-push.ts";
import { auditRoutes } from "./audit.ts";
import { bazelHttpRoutes } from "./bazel-http.ts";
import { clientRoutes } from "./client.ts";
import { closureRoutes } from "./closure.ts";
import { commonsRoutes } from "./commons.ts";
import { flywheelManageRoutes } from "./flywheel-manage.ts";
import { flywheelPushRoutes } from "./flywheel-push.ts";
import { healthRoutes } from "./health.ts";
import { identityRoutes } from "./identity.ts";
import { keyedValueRoutes } from "./keyed-values.ts";
import { metricsRoutes } from "./metrics.ts";
import { nixReadRoutes } from "./nix-read.ts";
import { nixWriteRoutes } from "./nix-write.ts";
import { overlayRoutes } from "./overlays.ts";
import { partUploadRoutes } from "./part-uploads.ts";
import { pinRoutes } from "./pins.ts";
import { retentionRoutes } from "./retention.ts";
import { revocationRoutes } from "./revocations.ts";
import type { RouteServices } from "./route-services.ts";
import { scrubRoutes } from "./scrub.ts";
import { signingKeyRoutes } from "./signing-keys.ts";
import { upstreamRoutes } from "./upstreams.ts";
import { viewPathRoutes } from "./view-paths.ts";
import { viewUpstreamRoutes } from "./view-upstreams.ts";
import { warmRoutes } from "./warm.ts";

/** Everything the server answers; `docs/reference/http-api.md` is tested against it. */
export function allRoutes(services: RouteServices): Route[] {
  // Routes with a literal first segment come before those of views.
  return [
    ...healthRoutes(services),
    ...metricsRoutes(services),
    ...identityRoutes(services),
    ...clientRoutes(services),
    ...flywheelManageRoutes(services),
    ...flywheelPushRoutes(services),
    ...partUploadRoutes(services),
    ...closureRoutes(services),
    ...warmRoutes(services),
    ...signingKeyRoutes(services),
    ...retentionRoutes(services),
    ...upstreamRoutes(services),
    ...viewUpstreamRoutes(services),
    ...overlayRoutes(services),
    ...pinRoutes(services),
    ...viewPathRoutes(services),
    ...scrubRoutes(services),
    ...auditRoutes(services),
    ...revocationRoutes(services),
    ...commonsRoutes(services),
    ...atticConfigRoutes(services),
    ...atticPushRoutes(services),
    ...nixReadRoutes(services),
    ...nixWriteRoutes(services),
    // What lies below kv/ may look like Bazel's.
    ...keyedValueRoutes(services),
    ...bazelHttpRoutes(services),
  ];
}
