import type { IncomingMessage, ServerResponse } from "node:http";

import type { Logger } from "@glorious/core";

import type { Caller } from "../trust/trust-gate.ts";

/** Which error body and statuses a route speaks: Attic's kinds on Attic's own routes, our codes elsewhere. */
export type RouteFamily = "attic" | "nix-write" | "bazel" | "flywheel";

/** One request under way, and what every route needs to answer it. */
export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Values of the pattern's `:names`, percent-decoded. */
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  /** Aborts when the client goes away before the answer is complete, or the server must stop. */
  readonly signal: AbortSignal;
  readonly requestId: string;
  readonly logger: Logger;
  /** Who asks; a bad token is an anonymous caller with a problem to tell. */
  readonly caller: Caller;
  /** The view that the request came to, where that is not the one in its path; set by the route. */
  viewName: string | undefined;
}

export type Handler = (exchange: Exchange) => Promise<void>;
