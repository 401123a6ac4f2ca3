import { createBazelWorkspace, describeEachBazel } from "@glorious/testkit";
import { expect, test } from "vitest";

import { formatBazelRc } from "../src/bazel-config/bazel-rc.ts";
import { parseBazelRelease } from "../src/bazel-config/bazel-version.ts";

/** Nobody listens on it. */
const DEAD = "127.0.0.1:1";
/** Where nobody knows which Bazel it will be. */
const OLDEST = {
  release: parseBazelRelease("4"),
  download: "toplevel",
  header: "a=b",
} as const;
const LITTLE = { download: "minimal", header: "authorization=Bearer secret" } as const;

describeEachBazel("the settings for it", (bazel) => {
  test.for([
    ["gRPC", `grpc://${DEAD}`, {}],
    ["HTTP", `http://${DEAD}/main`, {}],
    ["gRPC, with a header of two words, downloading little", `grpc://${DEAD}`, LITTLE],
    ["gRPC, of the oldest", `grpc://${DEAD}`, OLDEST],
    ["gRPC, downloading all", `grpc://${DEAD}`, { download: "all" }],
  ] as const)(
    "are all known to it, and build without the cache over %s",
    async ([, remoteCache, more]) => {
      await using workspace = await createBazelWorkspace(bazel);
      const rc = formatBazelRc({
        release: parseBazelRelease(bazel.version),
        remoteCache,
        instanceName: "main",
        mayPush: true,
        isCompressed: true,
        credentialHelper: undefined,
        ...more,
      });
      await workspace.write({
        BUILD: `genrule(name = "one", outs = ["one.txt"], cmd = "echo 1 > $@")\n`,
        "cache.bazelrc": rc,
      });
      const result = await workspace.run(["--bazelrc=cache.bazelrc", "build", "//..."]);
      expect(result.status, result.stderr).toBe(0);
      expect((await workspace.readOutput("one.txt")).toString()).toBe("1\n");
    },
  );
});
