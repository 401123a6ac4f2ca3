import { CacheError } from "@glorious/core";

import type { Exchange, Handler, RouteFamily } from "./exchange.ts";

/**
 * A route as declared: the pattern's segments are literal, `:name`, or `:name` with a literal suffix. One of them
 * may be `:name*`, which takes any number of segments, none too, and gives them with their slashes.
 */
export interface Route {
  readonly method: "GET" | "PUT" | "POST" | "PATCH" | "DELETE" | "PROPFIND" | "MKCOL";
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

/** The segments of a pattern around its `:name*`, which `rest` names. */
interface CompiledRoute {
  readonly route: Route;
  readonly head: readonly Segment[];
  readonly rest: string | undefined;
  readonly tail: readonly Segment[];
}

/**
 * Finds the route of a request. `GET` routes answer `HEAD` as well.
 *
 * Routes with as many segments as the path are tried first, then those of any length, each in the order given.
 */
export function createRouter(
  routes: readonly Route[],
): (method: string, pathname: string) => RouteMatch {
  const byLength = new Map<number, CompiledRoute[]>();
  const ofAnyLength: CompiledRoute[] = [];
  for (const route of routes) {
    const compiled = compileRoute(route);
    if (compiled.rest !== undefined) {
      ofAnyLength.push(compiled);
      continue;
    }
    const { length } = compiled.head;
    const sameLength = byLength.get(length) ?? [];
    sameLength.push(compiled);
    byLength.set(length, sameLength);
  }
  return (method, pathname) => {
    const parts = pathname.slice(1).split("/");
    const wanted = method === "HEAD" ? "GET" : method;
    const others: Route[] = [];
    for (const candidates of [byLength.get(parts.length) ?? [], ofAnyLength]) {
      for (const compiled of candidates) {
        if (!matchesRoute(compiled, parts)) continue;
        const { route } = compiled;
        if (route.method === wanted) {
          return { kind: "found", route, params: readParams(compiled, parts) };
        }
        others.push(route);
      }
    }
    const [first] = others;
    if (first === undefined) return { kind: "not-found" };
    return { kind: "wrong-method", family: first.family, allow: formatAllow(others) };
  };
}

function compileRoute(route: Route): CompiledRoute {
  const texts = route.pattern.slice(1).split("/");
  const at = texts.findIndex((text) => text.endsWith("*"));
  if (at < 0) return { route, head: texts.map(compileSegment), rest: undefined, tail: [] };
  return {
    route,
    head: texts.slice(0, at).map(compileSegment),
    rest: texts[at]?.slice(1, -1),
    tail: texts.slice(at + 1).map(compileSegment),
  };
}

function matchesRoute({ head, rest, tail }: CompiledRoute, parts: readonly string[]): boolean {
  const tailAt = parts.length - tail.length;
  if (rest === undefined ? tailAt !== head.length : tailAt < head.length) return false;
  return matchAll(head, parts, 0) && matchAll(tail, parts, tailAt);
}

function matchAll(segments: readonly Segment[], parts: readonly string[], from: number): boolean {
  return segments.every((segment, index) => matches(segment, parts[from + index] ?? ""));
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
  { head, rest, tail }: CompiledRoute,
  parts: readonly string[],
): Readonly<Record<string, string>> {
  const params: Record<string, string> = {};
  const tailAt = parts.length - tail.length;
  readSegments(head, parts, 0, params);
  if (rest !== undefined) {
    params[rest] = parts.slice(head.length, tailAt).map(decodeSegment).join("/");
  }
  readSegments(tail, parts, tailAt, params);
  return params;
}

function readSegments(
  segments: readonly Segment[],
  parts: readonly string[],
  from: number,
  params: Record<string, string>,
): void {
  for (const [index, { literal, name }] of segments.entries()) {
    if (name === undefined) continue;
    const part = parts[from + index] ?? "";
    params[name] = decodeSegment(part.slice(0, part.length - literal.length));
  }
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
