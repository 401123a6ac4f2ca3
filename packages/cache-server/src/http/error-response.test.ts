import { CACHE_ERROR_CODES, CacheError } from "@glorious/core";
import { describe, expect, test } from "vitest";

import { AtticError } from "./attic-error.ts";
import { HTTP_STATUS, toErrorResponse } from "./error-response.ts";
import type { RouteFamily } from "./exchange.ts";

const FAMILIES: readonly RouteFamily[] = ["attic", "nix-write", "flywheel"];

function respond(error: unknown, family: RouteFamily, userAgent?: string) {
  return toErrorResponse(error, { family, requestId: "id", userAgent });
}

test("a body's code is the status it comes with, whatever the route", () => {
  for (const code of CACHE_ERROR_CODES) {
    for (const family of FAMILIES) {
      const { status, body } = respond(new CacheError(code, "what", { hint: "do" }), family);
      expect(body).toMatchObject({ code: status, message: "what", hint: "do", requestId: "id" });
    }
  }
});

test("our routes speak our codes, Attic's routes only kinds that Attic has", () => {
  for (const code of CACHE_ERROR_CODES) {
    const error = new CacheError(code, "what");
    expect(respond(error, "flywheel").body.error).toBe(code);
    expect(respond(error, "nix-write").body.error).toBe(code);
    expect(respond(error, "attic").body.error).toMatch(
      /^(NotFound|Unauthorized|AccessError|RequestError|InternalServerError)$/,
    );
  }
});

test("a kind and status of Attic's count on its routes only", () => {
  const error = new AtticError("CacheAlreadyExists", "CONFLICT", "taken", { status: 400 });
  expect(respond(error, "attic").body).toMatchObject({ code: 400, error: "CacheAlreadyExists" });
  expect(respond(error, "flywheel").body).toMatchObject({ code: 409, error: "CONFLICT" });
});

test("damaged bytes are 400 to Attic's clients and 422 to others", () => {
  const error = new CacheError("CORRUPT", "damaged");
  expect(FAMILIES.map((family) => respond(error, family).status)).toEqual([400, 422, 422]);
});

test("only a refusal for want of a token asks for one, and only a passing one says when to come again", () => {
  for (const code of CACHE_ERROR_CODES) {
    const { headers } = respond(new CacheError(code, "what"), "attic");
    expect("www-authenticate" in headers).toBe(code === "UNAUTHENTICATED");
    expect("retry-after" in headers).toBe(code === "UNAVAILABLE" || code === "RATE_LIMITED");
  }
});

test("an error that is not ours says nothing of itself, and is ours to look into", () => {
  const { status, body, isInternal } = respond(new Error("password=hunter2"), "flywheel");
  expect([status, body.error, isInternal]).toEqual([500, "INTERNAL", true]);
  expect(JSON.stringify(body)).not.toContain("hunter2");
});

describe("a PUT of Nix that would hang when it is repeated", () => {
  const transient = CACHE_ERROR_CODES.filter(
    (code) => HTTP_STATUS[code] >= 500 || HTTP_STATUS[code] === 408,
  );

  test.each([
    ["curl/7.88.1 Nix/2.8.0", 501],
    ["curl/8.12.1 Nix/2.26.3", 501],
    ["curl/8.14.1 Nix/2.28.5", 501],
    ["curl/8.14.1 Nix/2.29.0", undefined],
    ["curl/8.20.0 Nix/2.34.8", undefined],
    ["curl/8.20.0 Nix/3.0.0", undefined],
    ["Attic/attic-client (attic)", undefined],
    [undefined, undefined],
  ])("of %s gets a status that is final for it", (userAgent, final) => {
    for (const code of transient) {
      const error = new CacheError(code, "later");
      expect(respond(error, "nix-write", userAgent).status).toBe(final ?? HTTP_STATUS[code]);
      expect(respond(error, "attic", userAgent).status).toBe(HTTP_STATUS[code]);
    }
    expect(respond(new CacheError("CONFLICT", "x"), "nix-write", userAgent).status).toBe(409);
  });
});
