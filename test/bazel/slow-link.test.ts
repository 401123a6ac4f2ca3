import { randomBytes } from "node:crypto";

import {
  type BazelWorkspace,
  createBazelWorkspace,
  describeEachBazel,
  startFlywheel,
  startFaultProxy,
} from "@glorious/testkit";
import { expect, test } from "vitest";

import { useBazel } from "./use-bazel.ts";

/** Half of what is the default: the test is twice as fast. */
const ATTEMPT_SECONDS = 5;
/** The blob takes 6.4 seconds on its way, in one direction: longer than an attempt may. */
const LINK_BYTES_PER_SECOND = 256 * 1024;
const BUILD = `genrule(name = "copy", srcs = ["noise"], outs = ["copied"], cmd = "cp $< $@")\n`;
const NOISE = randomBytes(1200 * 2 ** 10).toString("base64");

describeEachBazel("a link so slow that a blob takes longer than an attempt", (bazel) => {
  test("gives and takes the blob all the same", async () => {
    await using server = await startFlywheel();
    await using proxy = await startFaultProxy(
      () => Number(new URL(server.url).port),
      () => ({ bytesPerSecond: LINK_BYTES_PER_SECOND }),
    );
    const token = await server.readToken();
    const options = [
      `--remote_timeout=${ATTEMPT_SECONDS}s`,
      `--remote_cache=grpc://127.0.0.1:${proxy.port}`,
      ...(bazel.version.startsWith("4.") ? [] : [`--remote_header=authorization=Bearer ${token}`]),
    ];
    const build = (workspace: BazelWorkspace): ReturnType<BazelWorkspace["run"]> =>
      workspace.run(["build", ...options, "//..."], { timeoutMs: 240_000 });
    await using one = await createBazelWorkspace(bazel);
    await one.write({ BUILD, noise: NOISE });
    await useBazel(one, server, { args: ["--uncompressed"] });
    const first = await build(one);
    expect({ status: first.status, stderr: first.stderr }).toMatchObject({ status: 0 });

    await one.clean();
    const second = await build(one);
    expect(second.processes, second.stderr).toMatchObject({ "remote cache hit": 1 });
    expect((await one.readOutput("copied")).toString()).toBe(NOISE);
  });
});
