import { readFile } from "node:fs/promises";
import path from "node:path";

import { type ActionResult, findLeaks, runAction, runJob } from "@glorious/action-emulator";
import { createTemporaryDirectory } from "@glorious/testkit";
import { describe, expect, test } from "vitest";

import { type ActionName, copyAction } from "./action-copy.ts";

const READY = {
  version: 1,
  status: "ready",
  reason: "A push to main may write.",
  tenant: "acme",
  cache: "acme+main",
  trust: "trusted",
  canPush: true,
  pushMode: "hook",
  substituter: "http://127.0.0.1:1/path-secret",
  extraCaches: ["tools+main"],
  publicKeys: ["acme+main:key"],
  environment: { ATTIC_CACHE: "acme+main", FLYWHEEL_SESSION: "/session" },
  path: [],
  masks: ["path-secret"],
  warnings: [],
  existing: false,
  session: "/session",
};
const DRAINED = {
  version: 1,
  report: { pushed: 2, left: 0, failed: 0, bytes: 4096 },
  markdown: "### What the cache did\n",
};

/** A command that answers these values and writes down what it is asked. */
function fakeFlywheel(setup: string, drain = `say(${JSON.stringify(DRAINED)})`): string {
  return `import { readFileSync, appendFileSync } from "node:fs";
import { dirname } from "node:path";
const say = (value) => process.stdout.write(JSON.stringify(value) + "\\n");
const words = process.argv.slice(2);
const input = words[0] === "setup" ? readFileSync(0, "utf8") : "";
appendFileSync(dirname(process.argv[1]) + "/calls", JSON.stringify({ words, input }) + "\\n");
if (words[0] === "setup") { ${setup} }
if (words[0] === "drain") { ${drain} }
`;
}

interface Call {
  readonly words: readonly string[];
  readonly input: string;
}

interface FakeJob extends AsyncDisposable {
  readonly action: string;
  run(
    inputs?: Readonly<Record<string, string>>,
    more?: Partial<Parameters<typeof runAction>[0]>,
  ): Promise<ActionResult>;
  calls(): Promise<Call[]>;
}

async function startFakeJob(
  flywheel = fakeFlywheel(`say(${JSON.stringify(READY)})`),
  name: ActionName = "setup-attic",
): Promise<FakeJob> {
  const folder = await createTemporaryDirectory("flywheel-action-");
  const action = await copyAction(name, folder.path, flywheel);
  const directory = path.join(folder.path, "runner");
  return {
    action,
    run: (inputs = {}, more = {}) =>
      runAction({ directory, actionDirectory: action, inputs, ...more }),
    async calls() {
      const text = await readFile(path.join(action, "dist", "calls"), "utf8").catch(() => "");
      return text
        .split("\n")
        .filter((line) => line !== "")
        .map((line) => JSON.parse(line) as Call);
    },
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

test("the set-up's answer becomes outputs and variables, its secrets masks, its end a summary", async () => {
  await using job = await startFakeJob();

  const result = await job.run({
    ...{ cache: "acme+main", "push-filter": "-source$\n" },
    "extra-caches": "tools+main\n  open+main\n",
  });

  expect(result.conclusion).toBe("success");
  expect(result.main.outputs).toMatchObject({
    ...{ status: "ready", reason: READY.reason, tenant: "acme", cache: "acme+main" },
    ...{ trust: "trusted", "can-push": "true", "push-mode": "hook" },
    ...{ "public-key": "acme+main:key", "extra-caches": "tools+main" },
  });
  expect(result.masks).toContain("path-secret");
  expect(result.post?.rawOutput).not.toMatch(/::(warning|error)/);
  // The post part clears what the main part exported.
  expect(result.env).toMatchObject({
    ATTIC_CACHE: "",
    FLYWHEEL_SESSION: "",
    FLYWHEEL_STATUS: "ready",
  });
  expect(result.summary).toBe("### What the cache did\n");
  const [setup, drain] = await job.calls();
  expect(setup?.words).toEqual(["setup", "--request", "-"]);
  expect(JSON.parse(setup?.input ?? "")).toMatchObject({
    ...{ version: 1, kinds: ["nix"], view: "acme+main", push: "auto", pushMode: "auto" },
    ...{ pushFilter: ["-source$"], timeoutSeconds: 30, drainTimeoutSeconds: 300 },
    extraViews: ["tools+main", "open+main"],
  });
  expect(drain?.words).toEqual([
    ...["drain", "--session", "/session", "--timeout", "300s", "--json", "--end"],
  ]);
});

test("later steps find the command on PATH, from the runner's tool cache", async () => {
  await using folder = await createTemporaryDirectory("flywheel-action-");
  const flywheel =
    fakeFlywheel(`say(${JSON.stringify(READY)})`) + `if (words[0] === "hello") say("hi")`;
  const action = await copyAction("setup-flywheel", folder.path, flywheel);
  const directory = path.join(folder.path, "runner");
  const steps = [{ uses: action }, { run: "flywheel hello; command -v flywheel" }];

  const first = await runJob({ directory, steps });
  const second = await runJob({ directory, steps });

  const log = first.steps[1]?.log ?? "";
  expect(log).toMatch(
    /^"hi"\n\/.*\/runner\/tools\/flywheel\/0\.0\.0-h[0-9a-f]{16}\/\w+\/flywheel\n$/,
  );
  expect(second.steps[1]?.log).toBe(log);
  expect(second.leftovers).toEqual({ temp: [], home: [] });
});

describe("what goes wrong is one warning, and the job goes on; fail-on-error makes a failure of it", () => {
  test.each<[string, string, RegExp]>([
    ["the command fails", "process.exit(3)", /flywheel setup ended with 3/],
    ["the command crashes", `throw new Error("secret-free")`, /ended with 1/],
    ["the answer is nonsense", `process.stdout.write("hello\\n")`, /no answer that can be read/],
    ["the answer is another version's", "say({ version: 2, status: 'ready' })", /another version/],
    [
      "the set-up is degraded",
      `say(${JSON.stringify({
        ...READY,
        ...{ status: "degraded", reason: "The server does not answer.", session: undefined },
        warnings: [
          { code: "UNAVAILABLE", message: "The server does not answer.", hint: "Look at it." },
        ],
      })})`,
      /^The server does not answer/,
    ],
  ])("%s", async (_, setup, message) => {
    await using job = await startFakeJob(fakeFlywheel(setup));

    const lenient = await job.run();
    const strict = await job.run({ "fail-on-error": "true" });

    expect(lenient).toMatchObject({ conclusion: "success" });
    expect(lenient.main.outputs).toMatchObject({ status: "degraded" });
    expect(lenient.main.annotations).toEqual([
      expect.objectContaining({ level: "warning", message: expect.stringMatching(message) }),
    ]);
    expect(strict.conclusion).toBe("failure");
    expect(strict.main.annotations.map(({ level }) => level)).toContain("error");
  });

  test("a set-up that hangs is killed in time", async () => {
    await using job = await startFakeJob(fakeFlywheel("setInterval(() => {}, 1000)"));
    const { main } = await job.run({ timeout: "1" });
    expect(main.outputs["status"]).toBe("degraded");
    expect(main.annotations).toMatchObject([{ message: expect.stringMatching(/longer than 6 s/) }]);
  });

  test("a drain that fails or leaves paths", async () => {
    await using job = await startFakeJob(
      fakeFlywheel(`say(${JSON.stringify(READY)})`, "process.exit(1)"),
    );
    expect(await job.run()).toMatchObject({
      conclusion: "success",
      post: { annotations: [{ level: "warning", message: /drain ended with 1/ }] },
    });
    const left = {
      version: 1,
      report: { pushed: 0, left: 3, failed: 0, bytes: 0, reason: "no time" },
    };
    await using slow = await startFakeJob(
      fakeFlywheel(`say(${JSON.stringify(READY)})`, `say(${JSON.stringify(left)})`),
    );
    const { post, conclusion } = await slow.run();
    expect(conclusion).toBe("success");
    expect(post?.annotations).toMatchObject([
      { message: "3 store paths were not pushed: no time" },
    ]);
    expect((await slow.run({ "fail-on-error": "true" })).conclusion).toBe("failure");
  });
});

test.each([
  ["timeout", "soon", /timeout is "soon"; it is a whole number of seconds/],
  ["push", "maybe", /push is "maybe"; it may be auto, true, false/],
  ["push-filter", "(", /push-filter holds "\("/],
  ["server-url", "cache.example.org", /no address such as/],
  ["fail-on-error", "yes", /fail-on-error is "yes"/],
])("an author's mistake fails the job at once: %s: %s", async (name, value, message) => {
  await using job = await startFakeJob();
  const { main, post, conclusion } = await job.run({ [name]: value });
  expect(conclusion).toBe("failure");
  expect(main.annotations[0]).toMatchObject({
    level: "error",
    message: expect.stringMatching(message),
  });
  expect(post?.outcome).toBe("success");
  expect(await job.calls()).toEqual([]);
});

test("the static token goes by standard input, masked, and into no argument, variable or log", async () => {
  const SECRET = "eyJhbGciOiJub25lIn0.static-token.value";
  await using job = await startFakeJob(
    fakeFlywheel(
      `process.stderr.write("careless: " + JSON.parse(input).token + "\\n"); say(${JSON.stringify(READY)})`,
    ),
  );
  const result = await job.run({ token: SECRET });
  expect(result.main.log).toContain("careless: ***");
  expect(findLeaks(result, [SECRET])).toEqual([]);
  expect(findLeaks(result).filter(({ kind }) => kind === "printed")).toEqual([]);
  const [setup] = await job.calls();
  expect(setup?.words.join(" ")).not.toContain(SECRET);
});

test("the variables of older runners count, unless something of ours names the server", async () => {
  await using job = await startFakeJob();
  const request = async (): Promise<unknown> => JSON.parse((await job.calls()).at(-2)?.input ?? "");
  const env = {
    BAZEL_REMOTE_CACHE: "grpcs://cache.example.org:443/main",
    ATTIC_TOKEN: "old-secret",
  };
  const old = await job.run({}, { env });
  expect(await request()).toMatchObject({
    ...{ serverUrl: "https://cache.example.org", token: "old-secret" },
  });
  expect(findLeaks(old, ["old-secret"])).toEqual([]);
  await job.run({}, { env: { ...env, FLYWHEEL_SERVER: "https://ours.example.org" } });
  expect(await request()).not.toHaveProperty("serverUrl");
});

test("an agent that was there before is only reported, and not ended", async () => {
  const existing = { ...READY, existing: true, environment: {} };
  await using job = await startFakeJob(fakeFlywheel(`say(${JSON.stringify(existing)})`));
  const result = await job.run();
  expect(result.main.log).toContain("Found the cache already set up: ready.");
  expect((await job.calls()).map(({ words }) => words[0])).toEqual(["setup"]);
  expect(result.summary).toBe("");
});

test("what an untrusted job would keep in the forge's cache is left out, and said", async () => {
  const untrusted = { ...READY, trust: "untrusted", canPush: false, status: "read-only" };
  await using job = await startFakeJob(fakeFlywheel(`say(${JSON.stringify(untrusted)})`));
  const { main } = await job.run({ "keep-evaluation": "true" });
  expect(main.log).toContain("Only trusted jobs keep further caches");
});
