import { CacheError } from "@glorious/core";

import type { Route } from "../http/router.ts";
import { sendBytes } from "../http/send.ts";
import type { RouteServices } from "./route-services.ts";

/** The command line for jobs whose image has none. Whoever asks knows the hash, and checks it. */
export function clientRoutes({ clients }: RouteServices): Route[] {
  return [
    {
      method: "GET",
      pattern: "/_flywheel/v1/client/:sha256/flywheel.mjs",
      family: "flywheel",
      handler: async (exchange) => {
        const bundle = await clients?.find(exchange.params["sha256"] ?? "");
        if (bundle === undefined) {
          throw new CacheError("NOT_FOUND", "This server has no client with that hash", {
            hint: "Include the component of the server's own version, or put flywheel into the image of the job.",
          });
        }
        sendBytes(exchange, bundle, "text/javascript; charset=utf-8", {
          headers: { "cache-control": "public, max-age=31536000, immutable" },
        });
      },
    },
  ];
}
