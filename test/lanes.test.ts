import { createNixSandbox, describeEachNix } from "@glorious/testkit";
import { expect, test } from "vitest";

describeEachNix("the machine can drive Nix", (nix) => {
  test("it builds a path and dumps it as a NAR", async () => {
    await using sandbox = await createNixSandbox(nix);

    const storePath = await sandbox.buildPath(
      `mkPath { name = "lane"; script = "echo lane > $out"; }`,
    );

    expect(await sandbox.output("nix-store", ["--dump", storePath])).toContain("nix-archive-1");
  });
});
