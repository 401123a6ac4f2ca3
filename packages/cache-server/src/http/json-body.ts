import { CacheError } from "@glorious/core";
import * as v from "valibot";

import { AtticError } from "./attic-error.ts";
import { type BodyOptions, collectBody } from "./body.ts";
import type { Exchange } from "./exchange.ts";

/**
 * Reads a JSON body of a known shape.
 *
 * The statuses are those of Attic's server: no JSON media type 415, malformed 400, wrong shape 422.
 *
 * @throws {CacheError} `UNSUPPORTED`, `TOO_LARGE`, or `INVALID` naming the place in the body.
 */
export async function readJsonBody<Schema extends v.GenericSchema>(
  exchange: Exchange,
  schema: Schema,
  options: BodyOptions & { readonly maxSizeBytes: number },
): Promise<v.InferOutput<Schema>> {
  const mediaType =
    exchange.request.headers["content-type"]?.split(";")[0]?.trim().toLowerCase() ?? "none";
  if (mediaType !== "application/json" && !mediaType.endsWith("+json")) {
    throw new CacheError("UNSUPPORTED", `The body's content type is ${mediaType}`, {
      hint: "Send Content-Type: application/json.",
    });
  }
  const body = await collectBody(exchange, options);
  return parseJson(body.toString("utf8"), schema, "The body");
}

/**
 * Parses JSON text of a known shape; `what` names it in errors.
 *
 * @throws {CacheError} `INVALID` naming the place that is wrong.
 */
export function parseJson<Schema extends v.GenericSchema>(
  text: string,
  schema: Schema,
  what: string,
): v.InferOutput<Schema> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    // The error quotes the text, which may hold a key: only where it stumbled is passed on.
    const place = /at position \d+( \(line \d+ column \d+\))?/.exec(String(error))?.[0];
    throw new CacheError("INVALID", `${what} is not JSON${place === undefined ? "" : ` ${place}`}`);
  }
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  const [issue] = result.issues;
  const place = v.getDotPath(issue);
  throw new AtticError(
    "RequestError",
    "INVALID",
    `${what} is wrong at ${place ?? "its root"}: ${issue.message}`,
    { status: 422 },
  );
}
