import { existsSync } from "node:fs";
import path from "node:path";

import { describe, expect, test } from "vitest";

import { findLeaks, type JobResult, runAction, runJob } from "../src/index.ts";
import { createTestFolder } from "./action-folder.ts";

const outcomes = ({ steps }: JobResult): string[] =>
  steps.map(({ name, phase, outcome }) => `${phase} ${name}: ${outcome}`);

test("mains run in order, post parts in reverse with their own state, and only what a main saved", async () => {
  await using folder = await createTestFolder();
  const make = (name: string): Promise<string> =>
    folder.action(name, {
      main: `put("STATE", "who=${name}"); say("main of ${name}, state " + process.env.STATE_who)`,
      post: `say("post of " + process.env.STATE_who)`,
    });
  const [a, b] = [await make("a"), await make("b")];

  const job = await runJob({ directory: folder.runner, steps: [{ uses: a }, { uses: b }] });

  expect(outcomes(job)).toEqual([
    ...["main a: success", "main b: success", "post b: success", "post a: success"],
  ]);
  expect(job.steps.map(({ log }) => log.trim())).toEqual([
    ...["main of a, state undefined", "main of b, state undefined", "post of b", "post of a"],
  ]);
});

test("inputs have defaults, keep dashes, turn spaces into underscores and are always there", async () => {
  await using folder = await createTestFolder();
  const action = await folder.action("inputs", {
    inputs: { "drain-timeout": "300", "with space": "", left: "default" },
    main: `say(JSON.stringify(Object.fromEntries(Object.entries(process.env).filter(([k]) => k.startsWith("INPUT_")))))`,
  });
  const inputs = { "drain-timeout": "5", "with space": "x", unknown: "y" };

  const { main } = await runAction({ directory: folder.runner, actionDirectory: action, inputs });

  expect(JSON.parse(main.rawOutput)).toEqual({
    "INPUT_DRAIN-TIMEOUT": "5",
    INPUT_WITH_SPACE: "x",
    INPUT_LEFT: "default",
    INPUT_UNKNOWN: "y",
  });
  expect(main.annotations).toMatchObject([{ message: "Unexpected input(s) 'unknown'" }]);
});

test("variables, PATH and outputs reach the next step and not the one that sets them", async () => {
  await using folder = await createTestFolder();
  await folder.write("tool/tool", "#!/bin/sh\necho from the tool");
  const action = await folder.action("exports", {
    main: `put("ENV", "A=1\\nB<<E\\ntwo\\nlines\\nE"); put("PATH", ${JSON.stringify(path.join(folder.runner, "../tool"))});
      put("OUTPUT", "status=ready"); say(String(process.env.A));`,
  });
  const steps = [
    { uses: action, id: "cache" },
    { run: 'echo "$A $B"; tool; echo ${{ steps.cache.outputs.status }} ${{ env.A }}' },
    { run: "echo only here", if: "steps.cache.outputs.status != 'ready'" },
  ];

  const job = await runJob({ directory: folder.runner, steps });

  expect(job.steps.map(({ log }) => log)).toEqual([
    ...["undefined\n", "1 two\nlines\nfrom the tool\nready 1\n", ""],
  ]);
  expect(job.env).toEqual({ A: "1", B: "two\nlines" });
  expect(job.path).toHaveLength(1);
  expect(outcomes(job).at(-1)).toBe("main step 3: skipped");
});

test("a failed main stops the steps, not the post parts; a failed post part fails the job", async () => {
  await using folder = await createTestFolder();
  const bad = await folder.action("bad", { main: "process.exit(3)", post: `say("cleaned")` });
  const picky = await folder.action("picky", { main: "", post: "", postIf: "success()" });
  const steps = [{ uses: picky }, { uses: bad }, { run: "true" }, { run: "true", if: "failure()" }];

  const job = await runJob({ directory: folder.runner, steps });

  expect(job.conclusion).toBe("failure");
  expect(outcomes(job)).toEqual([
    ...["main picky: success", "main bad: failure", "main step 3: skipped"],
    ...["main step 4: success", "post bad: success", "post picky: skipped"],
  ]);
  expect(job.steps[1]).toMatchObject({
    exitCode: 3,
    annotations: [{ level: "error", message: "Process completed with exit code 3." }],
  });

  const late = await folder.action("late", { main: "", post: "throw new Error('x')" });
  expect(await runAction({ directory: folder.runner, actionDirectory: late })).toMatchObject({
    conclusion: "failure",
  });
});

test("a malformed file command and a disabled command fail their step, and NODE_OPTIONS is refused", async () => {
  await using folder = await createTestFolder();
  const run = async (main: string): Promise<JobResult> =>
    runAction({
      directory: folder.runner,
      actionDirectory: await folder.action("wrong", { main }),
    });

  expect((await run(`put("OUTPUT", "nonsense")`)).steps[0]).toMatchObject({
    outcome: "failure",
    annotations: [{ message: "Invalid format 'nonsense'" }],
  });
  expect((await run(`say("::set-env name=A::1")`)).conclusion).toBe("failure");
  expect((await run(`put("ENV", "NODE_OPTIONS=--require=/x")`)).env).toEqual({});
});

test("of many warnings the forge keeps ten, and stopped commands are ordinary output", async () => {
  await using folder = await createTestFolder();
  const action = await folder.action("loud", {
    main: `for (let i = 0; i < 12; i += 1) say("::warning title=T::number " + i);
      say("::stop-commands::pause", "::warning::not this", "::pause::", "::notice::this")`,
  });

  const { main } = await runAction({ directory: folder.runner, actionDirectory: action });

  expect(main.annotations).toHaveLength(11);
  expect(main.annotations[0]).toEqual({
    level: "warning",
    message: "number 0",
    properties: { title: "T" },
  });
  expect(main.annotations.at(-1)).toMatchObject({ level: "notice", message: "this" });
  expect(main.droppedAnnotations).toBe(2);
  expect(main.log).toContain("::warning::not this");
});

describe("secrets", () => {
  const SECRET = "s3cr3t-token-value";

  test("what is masked is hidden in every later line, annotation and summary", async () => {
    await using folder = await createTestFolder();
    const action = await folder.action("careful", {
      main: `say("::add-mask::${SECRET}", "the token is ${SECRET}", "::error::no ${SECRET}");
        put("STEP_SUMMARY", "| ${SECRET} |"); say(Buffer.from("u:${SECRET}").toString("base64"))`,
      post: `say("still ${SECRET}")`,
    });

    const job = await runAction({ directory: folder.runner, actionDirectory: action });

    expect(job.masks).toEqual([SECRET]);
    expect(job.main.log).toMatch(/^the token is \*{3}\n##\[error\]no \*{3}\n/);
    expect(job.post?.log).toBe("still ***\n");
    expect(job.summary).toBe("| *** |\n");
    expect(findLeaks(job)).toEqual([]);
  });

  test.each<[string, string, string]>([
    ["before it is masked", `say("oh ${SECRET}", "::add-mask::${SECRET}")`, "log of careless"],
    [
      "as an output",
      `say("::add-mask::${SECRET}"); put("OUTPUT", "t=${SECRET}")`,
      "output t of careless",
    ],
    [
      "as a variable",
      `say("::add-mask::${SECRET}"); put("ENV", "T=${SECRET}")`,
      "environment variable T",
    ],
    ["in a summary that is not masked", `put("STEP_SUMMARY", "${SECRET}")`, "summary of careless"],
    ["in base64", `say(Buffer.from("u:${SECRET}").toString("base64"))`, "log of careless"],
  ])("a secret that is printed %s is found", async (_, main, where) => {
    await using folder = await createTestFolder();
    const action = await folder.action("careless", { main });

    const job = await runAction({ directory: folder.runner, actionDirectory: action });

    const leaks = findLeaks(job, [SECRET]);
    expect(leaks).toMatchObject([{ where, excerpt: expect.stringContaining("<secret>") }]);
    expect(JSON.stringify(leaks)).not.toContain(SECRET);
  });

  test("the token of the identity endpoint reaches steps with the permission only, masked", async () => {
    await using folder = await createTestFolder();
    const identity = { requestUrl: "http://127.0.0.1:9/t?a=1", requestToken: SECRET };
    const steps = [{ run: "echo [$ACTIONS_ID_TOKEN_REQUEST_TOKEN]" }];

    const allowed = await runJob({ directory: folder.runner, steps, identity });
    const denied = await runJob({ directory: folder.runner, steps });

    expect(allowed.steps[0]?.log).toBe("[***]\n");
    expect(denied.steps[0]?.log).toBe("[]\n");
  });
});

describe("a cancelled job", () => {
  const TIMES = { interruptMs: 400, terminateMs: 400 };

  test("interrupts its step, skips the rest, runs post parts and steps that ask for it", async () => {
    await using folder = await createTestFolder();
    const cancel = new AbortController();
    const action = await folder.action("slow", {
      main: `process.on("SIGINT", () => { say("interrupted"); process.exit(0); });
        setInterval(() => {}, 1000); say("begun")`,
      post: `say("cleaned")`,
    });
    const steps = [{ uses: action }, { run: "true" }, { run: "echo still", if: "always()" }];

    const job = await runJob({
      directory: folder.runner,
      steps,
      signal: cancel.signal,
      onLine: (line) => line === "begun" && cancel.abort(),
    });

    expect(job.conclusion).toBe("cancelled");
    expect(outcomes(job)).toEqual([
      ...["main slow: cancelled", "main step 2: skipped", "main step 3: success"],
      "post slow: success",
    ]);
    expect(job.steps[0]?.log).toBe("begun\ninterrupted\n");
  });

  test("a step that ignores both signals is killed with its children", async () => {
    await using folder = await createTestFolder();
    const cancel = new AbortController();
    const run = `trap 'echo int' INT; trap 'echo term' TERM; echo begun; while true; do sleep 0.1; done`;

    const job = await runJob({
      directory: folder.runner,
      steps: [{ run }],
      signal: cancel.signal,
      cancelTimes: TIMES,
      onLine: (line) => line === "begun" && cancel.abort(),
    });

    expect(job.steps[0]).toMatchObject({ outcome: "cancelled", exitCode: 137 });
    expect(job.steps[0]?.log).toMatch(/begun\n(int\n)+(term\n)+/);
  });

  test("a step's time limit ends it the same way, and fails it", async () => {
    await using folder = await createTestFolder();
    const steps = [{ run: "exec sleep 60", timeoutMs: 100 }];
    const job = await runJob({ directory: folder.runner, steps, cancelTimes: TIMES });
    expect(job.steps[0]).toMatchObject({ outcome: "failure" });
    expect(job.steps[0]?.annotations[0]?.message).toMatch(/has timed out/);
  });
});

test("what a job leaves running is killed and named when it is over, not before its post parts", async () => {
  await using folder = await createTestFolder();
  const action = await folder.action("daemon", {
    main: `import { spawn } from "node:child_process";
      const child = spawn("sleep", ["61.5"], { detached: true, stdio: "ignore" }); child.unref();
      put("STATE", "pid=" + child.pid)`,
    post: `process.kill(Number(process.env.STATE_pid), 0); say("still there")`,
  });

  const job = await runAction({ directory: folder.runner, actionDirectory: action });

  expect(job.post?.log).toBe("still there\n");
  expect(job.orphans).toEqual([{ pid: expect.any(Number), command: "sleep 61.5" }]);
});

test("a runner that is stopped after the last step runs no post part", async () => {
  await using folder = await createTestFolder();
  const action = await folder.action("cut", { main: "", post: "" });
  const job = await runAction({
    directory: folder.runner,
    actionDirectory: action,
    hasNoPost: true,
  });
  expect(outcomes(job)).toEqual(["main cut: success"]);
});

test("files that a job leaves in its temporary folder and in the home are named", async () => {
  await using folder = await createTestFolder();
  const run = `touch "$RUNNER_TEMP/left" "$HOME/new" "$HOME/old"`;
  await runJob({ directory: folder.runner, steps: [{ run: `touch "$HOME/old"` }] });

  const job = await runJob({ directory: folder.runner, steps: [{ run }] });

  expect(job.leftovers).toEqual({ temp: ["left"], home: ["new"] });
  expect(existsSync(path.join(folder.runner, "temp", "left"))).toBe(true);
});

test("debug messages are shown when they are wanted", async () => {
  await using folder = await createTestFolder();
  const steps = [{ run: "echo ::debug::detail; echo [$RUNNER_DEBUG]" }];
  const plain = await runJob({ directory: folder.runner, steps });
  const verbose = await runJob({ directory: folder.runner, steps, isDebugging: true });
  expect([plain, verbose].map((job) => job.steps[0]?.log)).toEqual([
    "[]\n",
    "##[debug]detail\n[1]\n",
  ]);
});

test("a Forgejo job has its own marks beside GitHub's", async () => {
  await using folder = await createTestFolder();
  const run = "echo $GITHUB_ACTIONS $FORGEJO_ACTIONS $GITHUB_SERVER_URL $FORGEJO_REPOSITORY";
  const { steps } = await runJob({
    directory: folder.runner,
    flavour: "forgejo",
    event: { repository: "acme/tool" },
    steps: [{ run }],
  });
  expect(steps[0]?.log).toBe("true true https://forge.example.org acme/tool\n");
});

test("hooks run around everything, see no variables of steps, and what the first exports reaches them", async () => {
  await using folder = await createTestFolder();
  const started = await folder.write(
    "started.sh",
    'echo "::add-mask::hush"; echo "A=${A-none} hush" >>"$GITHUB_ENV"',
  );
  const completed = await folder.write("completed.sh", 'echo "${A-nothing} in $RUNNER_TEMP"');
  const picky = await folder.action("picky", { main: "", post: `say("post")` });
  const options = { directory: folder.runner, jobEnv: { A: "job" } };
  const hooks = { jobStarted: started, jobCompleted: completed };
  const steps = [{ run: 'echo "$A"' }, { uses: picky }];

  const job = await runJob({ ...options, hooks, steps });

  expect(job.steps.map(({ name, log }) => `${name}: ${log.trim()}`)).toEqual([
    "job-started: ",
    "step 1: none ***",
    "picky: ",
    "picky: post",
    `job-completed: nothing in ${path.join(folder.runner, "temp")}`,
  ]);
});

test("a hook that fails, fails the job; without post parts there is no last hook", async () => {
  await using folder = await createTestFolder();
  const bad = await folder.write("bad.sh", "false; echo never");
  const steps = [{ run: "true" }];

  const first = await runJob({ directory: folder.runner, hooks: { jobStarted: bad }, steps });
  const last = await runJob({ directory: folder.runner, hooks: { jobCompleted: bad }, steps });
  const stopped = await runJob({
    ...{ directory: folder.runner, steps, hasNoPost: true },
    hooks: { jobCompleted: bad },
  });

  expect(outcomes(first)).toEqual(["main job-started: failure", "main step 1: skipped"]);
  expect(outcomes(last)).toEqual(["main step 1: success", "post job-completed: failure"]);
  expect([first, last, stopped].map(({ conclusion }) => conclusion)).toEqual([
    ...["failure", "failure", "success"],
  ]);
});
