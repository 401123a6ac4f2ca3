import { create, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";

import { failsWithoutUpdates } from "./client-tool.ts";
import { RequestMetadataSchema } from "./generated/build/bazel/remote/execution/v2/remote_execution_pb.ts";

function headersOf(toolName: string, toolVersion: string): { getBinary(): Uint8Array } {
  const toolDetails = { toolName, toolVersion };
  const bytes = toBinary(RequestMetadataSchema, create(RequestMetadataSchema, { toolDetails }));
  return { getBinary: () => bytes };
}

test.for([
  ["bazel", "4.2.3", true],
  ["bazel", "no_version", true],
  ["bazel", "", true],
  ["bazel", "7.7.1", false],
  ["bazel", "10.0.0-pre.1", false],
  ["recc", "1.4.30", false],
] as const)("%s %s fails when it may not upload: %s", ([name, version, fails]) => {
  expect(failsWithoutUpdates(headersOf(name, version))).toBe(fails);
});

test("whoever does not say what it is, or nonsense, is no old Bazel", () => {
  expect(failsWithoutUpdates({ getBinary: () => undefined })).toBe(false);
  expect(failsWithoutUpdates({ getBinary: () => Buffer.from([0xff]) })).toBe(false);
});
