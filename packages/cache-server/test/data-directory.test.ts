import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { silentLogger } from "@glorious/core";
import { expect, test } from "vitest";

import { type EmbeddedPlane, startEmbedded } from "../src/embedded.ts";

function start(directory: string): Promise<EmbeddedPlane> {
  return startEmbedded({
    environment: { FLYWHEEL_DATA: directory, FLYWHEEL_LISTEN: "127.0.0.1:0" },
    logger: silentLogger,
  });
}

test("a data directory serves one server at a time, and the next one when that has ended", async () => {
  const directory = await mkdtemp(join(tmpdir(), "data-directory-"));
  try {
    const first = await start(directory);
    await expect(start(directory)).rejects.toMatchObject({
      code: "CONFIG",
      message: `Another server is running on the data directory ${directory}`,
    });
    await first.close();
    await using second = await start(directory);
    expect(second.publicKey).toBe(first.publicKey);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
