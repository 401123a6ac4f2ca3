import { GRPC_STATUS } from "@glorious/grpc";
import * as fc from "fast-check";
import { expect, test } from "vitest";

import { judgeEnd } from "./judge-end.ts";
import { METHODS, type MethodKind } from "./methods.ts";

const KINDS: readonly MethodKind[] = [...METHODS.values()];

test.for([
  ["get-action", "OK", "pass"],
  ["get-action", "NOT_FOUND", "pass"],
  ["get-action", "UNAVAILABLE", "trouble"],
  ["get-action", "RESOURCE_EXHAUSTED", "trouble"],
  ["write", "RESOURCE_EXHAUSTED", "refused"],
  ["update-action", "PERMISSION_DENIED", "refused"],
  ["read", "UNAUTHENTICATED", "renew"],
  ["read", "OUT_OF_RANGE", "pass"],
  ["read", "DATA_LOSS", "trouble"],
] as const)("%s that ends with %s: %s", ([kind, status, verdict]) => {
  expect(judgeEnd(kind, { status: GRPC_STATUS[status], isUnprocessed: false })).toBe(verdict);
});

test("whatever a cache says, what it has not looked at is asked again, and OK is its own answer", () => {
  fc.assert(
    fc.property(fc.constantFrom(...KINDS), fc.integer({ min: 0, max: 20 }), (kind, status) => {
      expect(judgeEnd(kind, { status, isUnprocessed: true })).toBe("repeat");
      expect(judgeEnd(kind, { status: GRPC_STATUS.OK, isUnprocessed: false })).toBe("pass");
    }),
  );
});
