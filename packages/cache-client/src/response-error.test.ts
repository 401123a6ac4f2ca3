import { expect, test } from "vitest";

import { toResponseError } from "./response-error.ts";

const request = "GET https://cache.example/_api/v1/cache-config/main";

test("an error of our server keeps its code, hint and request id", () => {
  const body = JSON.stringify({
    code: 422,
    error: "CORRUPT",
    message: "the NAR has another hash",
    hint: "send it again",
    requestId: "r-1",
  });
  expect(toResponseError({ request, status: 422, body })).toMatchObject({
    code: "CORRUPT",
    status: 422,
    requestId: "r-1",
    hint: "send it again",
    message: `${request} answered 422: the NAR has another hash`,
  });
});

test.each([
  [401, "Unauthorized", "UNAUTHENTICATED"],
  [403, "AccessError", "FORBIDDEN"],
  [404, "NoSuchCache", "NOT_FOUND"],
  [400, "CacheAlreadyExists", "CONFLICT"],
  [400, "RequestError", "INVALID"],
  [500, "InternalServerError", "INTERNAL"],
  [503, "IncompleteNar", "UNAVAILABLE"],
] as const)("an atticd's %d %s is %s", (status, kind, code) => {
  const body = JSON.stringify({
    code: status,
    error: kind,
    message: "some words",
    request_id: "f-1",
  });
  expect(toResponseError({ request, status, body })).toMatchObject({
    code,
    kind,
    requestId: "f-1",
  });
});

test("an atticd's failed hash check is CORRUPT and points at proxies", () => {
  const body = JSON.stringify({
    code: 400,
    error: "RequestError",
    message: "Request error: Bad NAR Hash or Size",
  });
  expect(toResponseError({ request, status: 400, body })).toMatchObject({
    code: "CORRUPT",
    hint: expect.stringContaining("proxy"),
  });
});

test.each([
  [415, "Expected request with `Content-Type: application/json`", "UNSUPPORTED"],
  [422, "Failed to deserialize the JSON body into the target type", "INVALID"],
  [413, "Failed to buffer the request body: length limit exceeded", "TOO_LARGE"],
  [405, "", "METHOD_NOT_ALLOWED"],
] as const)("a framework's plain text %d keeps its words", (status, body, code) => {
  const error = toResponseError({
    request,
    status,
    body,
    contentType: "text/plain; charset=utf-8",
  });
  expect(error.code).toBe(code);
  expect(error.message).toContain(body);
});

test("a proxy's web page is named by its status alone, and its request id is kept", () => {
  const body = "<html><head><title>502 Bad Gateway</title></head></html>";
  const error = toResponseError({
    request,
    status: 502,
    body,
    contentType: "text/html",
    requestId: "p-1",
  });
  expect(error.message).toBe(`${request} answered 502: bad gateway`);
  expect(error.requestId).toBe("p-1");
});

test("control characters of a server never reach a terminal, and long answers are cut", () => {
  const { message } = toResponseError({
    request,
    status: 400,
    body: `bad\u001B[2J\r\n${"x".repeat(9000)}`,
  });
  // oxlint-disable-next-line no-control-regex -- that is what is looked for
  expect(message).not.toMatch(/[\u0000-\u001F]/);
  expect(message.length).toBeLessThan(700);
});

test("a redirect says where it leads instead of being followed with the token", () => {
  const error = toResponseError({
    request,
    status: 301,
    body: "",
    location: "https://other.example/",
  });
  expect(error).toMatchObject({
    code: "UNSUPPORTED",
    message: `${request} redirects to https://other.example/`,
  });
});
