import { CacheError } from "@glorious/core";

import type { Exchange, Handler, RouteFamily } from "./exchange.ts";

/** A route as declared: the pattern's segments are literal, `:name`, or `:name` with a literal suffix. */
export interface Route {
  readonly method: "GET" | "PUT" | "POST" | "PATCH" | "DELETE";
  readonly pattern: string;
  readonly family: RouteFamily;
  /** Answers whatever address it is asked under: probes know the server by its IP address, or by none. */
  readonly anyHost?: boolean;
  readonly handler: Handler;
  /** Answers a GET at once from memory; `false` when it cannot, and then has done nothing. */
  readonly recall?: (exchange: Exchange) => boolean;
}

/** What a request's method and path lead to. */
export type RouteMatch =
  | {
      readonly kind: "found";
      readonly route: Route;
      readonly params: Readonly<Record<string, string>>;
    }
  | { readonly kind: "wrong-method"; readonly family: RouteFamily; readonly allow: string }
  | { readonly kind: "not-found" };

interface Segment {
  readonly literal: string;
  readonly name: string | undefined;
}

interface CompiledRoute {
  readonly route: Route;
  readonly segments: readonly Segment[];
}

/**
 * Finds the route of a request. `GET` routes answer `HEAD` as well.
 *
 * Routes are tried in the order given among those with as many segments as the path.
 */
export function createRouter(
  routes: readonly Route[],
): (method: string, pathname: string) => RouteMatch {
  const byLength = new Map<number, CompiledRoute[]>();
  for (const route of routes) {
    const segments = route.pattern.slice(1).split("/").map(compileSegment);
    const sameLength = byLength.get(segments.length) ?? [];
    sameLength.push({ route, segments });
    byLength.set(segments.length, sameLength);
  }
  return (method, pathname) => {
    const parts = pathname.slice(1).split("/");
    const wanted = method === "HEAD" ? "GET" : method;
    const others: Route[] = [];
    for (const { route, segments } of byLength.get(parts.length) ?? []) {
      if (!segments.every((segment, index) => matches(segment, parts[index] ?? ""))) continue;
      if (route.method === wanted) {
        return { kind: "found", route, params: readParams(segments, parts) };
      }
      others.push(route);
    }
    const [first] = others;
    if (first === undefined) return { kind: "not-found" };
    return { kind: "wrong-method", family: first.family, allow: formatAllow(others) };
  };
}

function compileSegment(text: string): Segment {
  const match = /^:(\w+)(.*)$/.exec(text);
  return match === null
    ? { literal: text, name: undefined }
    : { literal: match[2] ?? "", name: match[1] };
}

function matches(segment: Segment, part: string): boolean {
  if (segment.name === undefined) return segment.literal === part;
  return part.length > segment.literal.length && part.endsWith(segment.literal);
}

function readParams(
  segments: readonly Segment[],
  parts: readonly string[],
): Readonly<Record<string, string>> {
  const params: Record<string, string> = {};
  for (const [index, { literal, name }] of segments.entries()) {
    if (name === undefined) continue;
    const part = parts[index] ?? "";
    params[name] = decodeSegment(part.slice(0, part.length - literal.length));
  }
  return params;
}

function decodeSegment(text: string): string {
  if (!text.includes("%")) return text;
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    throw new CacheError(
      "INVALID",
      `The path segment ${JSON.stringify(text)} is not percent-encoded UTF-8`,
      {
        cause,
      },
    );
  }
}

function formatAllow(routes: readonly Route[]): string {
  const methods = new Set<string>(routes.map((route) => route.method));
  if (methods.has("GET")) methods.add("HEAD");
  return [...methods].toSorted().join(", ");
}
