import { expect } from "vitest";

import { createTestPath, type TestPath } from "./test-path.ts";
import type { TestServer } from "./test-server.ts";
import { closurePath, encode, postJson, putNar } from "./uploads.ts";

/** Makes paths of which each refers to those before it that its list names. */
export async function createGraph(
  graph: Readonly<Record<string, readonly string[]>>,
): Promise<Record<string, TestPath>> {
  const paths: Record<string, TestPath> = {};
  for (const [name, references] of Object.entries(graph)) {
    const baseNames = references.map((other) => paths[other]?.baseName ?? other);
    paths[name] = await createTestPath(name, `what ${name} holds`, baseNames);
  }
  return paths;
}

/** Pushes paths as one closure, the way our own client does. */
export async function pushClosure(
  server: TestServer,
  token: string,
  view: string,
  paths: readonly TestPath[],
  externalReferences: readonly string[] = [],
): Promise<void> {
  for (const path of paths) {
    expect((await putNar(server, token, view, path, await encode(path))).status).toBe(200);
  }
  const body = { paths: paths.map(closurePath), externalReferences };
  const answer = await postJson(server, token, `/_flywheel/v1/views/${view}/closures`, body);
  expect(answer.status).toBe(200);
}
