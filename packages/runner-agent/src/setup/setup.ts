import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";

import { describeError } from "@glorious/core";

import { createControlClient } from "../control/control-client.ts";
import type { SessionFiles } from "../session/session-files.ts";
import {
  type AgentSession,
  readSession,
  readSettings,
  writeSessionFile,
  writeSettings,
  writeState,
} from "../session/session-state.ts";
import { appendToQueue } from "../uploads/spool.ts";
import { readTokenFile } from "../uploads/upload-target.ts";
import { configureJob, type ConfigureState } from "./configure-job.ts";
import type { NixFacts } from "./detect-nix.ts";
import { type EarlierSession, readReport } from "./earlier-session.ts";
import { createEarlyAgent, discardSession, type EarlyAgent } from "./early-agent.ts";
import { type ExtraViews, NO_EXTRA_VIEWS, openExtraViews } from "./extra-views.ts";
import { JobTools } from "./job-tools.ts";
import { type Access, namesServer, openAccess, pendingAccess, wantsWrite } from "./open-access.ts";
import {
  claimPendingSetup,
  type PendingSetup,
  waitUntilReached,
  widenPendingSetup,
  writePendingSetup,
} from "./pending-setup.ts";
import {
  accessOf,
  type DecidedState,
  planAgent,
  planBazel,
  planNixFace,
  planUploads,
} from "./plan-agent.ts";
import { SetupNews } from "./setup-news.ts";
import { type NixPlan, planNix } from "./setup-nix.ts";
import type {
  PushMode,
  SetupContext,
  SetupKind,
  SetupRequest,
  SetupResult,
} from "./setup-request.ts";
import type { Stopwatch } from "./stopwatch.ts";
import { findUnused } from "./unused-names.ts";

/** The set-up of one job, as it goes on: in the command, in a later step's, or in the agent. */
export class Setup implements Disposable {
  readonly #request: SetupRequest;
  readonly #context: SetupContext;
  readonly #stopwatch: Stopwatch;
  readonly #tools: JobTools;
  /** What came up, and the result where nothing comes of it. */
  readonly news: SetupNews;
  #found: { readonly nix?: NixFacts | undefined; readonly pushMode?: PushMode | undefined } = {};

  constructor(request: SetupRequest, context: SetupContext, stopwatch: Stopwatch) {
    this.#request = request;
    this.#context = context;
    this.#stopwatch = stopwatch;
    this.news = new SetupNews(request, context.signal, stopwatch);
    this.#tools = new JobTools(request, context, this.news);
  }

  [Symbol.dispose](): void {
    this.#tools[Symbol.dispose]();
  }

  /** The job has no session yet. */
  async run(leftPaths: readonly string[]): Promise<SetupResult> {
    const { env, self } = this.#context;
    const parent = this.#request.temporaryDirectory ?? (env["RUNNER_TEMP"] || tmpdir());
    await using early = createEarlyAgent(parent, { self, env, drainOnly: false });
    const isNamed = namesServer(this.#request, env);
    let writing: Promise<void> | undefined;
    if (isNamed) {
      early.launch();
      if (this.#request.kinds.includes("bazel")) void this.#tools.bazelRelease().catch(() => {});
      if (mayHook(this.#request)) writing = this.#tools.writeHook(early.files());
    }
    const [access, nix] = await Promise.all([
      openAccess(this.#request, {
        env,
        signal: AbortSignal.any([this.#context.signal, AbortSignal.timeout(this.#serverMs())]),
        stopwatch: this.#stopwatch,
      }),
      isNamed ? this.#tools.detectNix(early.files()) : undefined,
      // Nothing may be written into a folder that is on its way out.
      writing,
    ]);
    if (access.kind === "none") {
      const { lateServer } = access;
      if (lateServer === undefined || this.#request.waitSeconds === undefined) {
        return this.news.without(access.status, access.reason, access.hint);
      }
      const pending = pendingAccess(lateServer, this.#request, env);
      return await this.#open(pending, early, { nix, leftPaths });
    }
    return await this.#open(access, early, { nix, leftPaths });
  }

  async #open(
    access: Access,
    early: EarlyAgent,
    { nix, leftPaths }: Pick<StartState, "nix" | "leftPaths">,
  ): Promise<SetupResult> {
    const state = await this.#decide(access, nix);
    if (state.plan === undefined && !state.isBazelWanted) {
      const lacks = this.news.lacks.join(" ") || "There is nothing to configure.";
      return this.news.without("degraded", this.news.warnings[0]?.message ?? lacks);
    }
    return this.#start(access, early, { ...state, leftPaths });
  }

  /** What is to be configured, with this access. */
  async #decide(access: Access, nix: NixFacts | undefined): Promise<DecidedState> {
    // A line that begins with `::` is a command to a forge's runner, and its log is read for them.
    this.news.notes.push(...access.notices.map((notice) => `The server says: ${notice}`));
    const mayPush = access.isPending === true || access.write !== undefined;
    const canPush = mayPush && wantsWrite(this.#request);
    if (!canPush && this.#request.push === "true") {
      this.news.warn("no-push", `The job wants to push, and may not: ${access.reason}`);
    }
    const plan = nix === undefined ? undefined : planNix(nix, this.#request, canPush);
    const isBazelWanted = await this.#tools.requireBazel(access);
    return { nix, plan, extra: await this.#openExtra(access, nix, plan), canPush, isBazelWanted };
  }

  /** The server has answered at last, and the agent that asked is there already: it is told, and so is the job. */
  async complete(access: Access, files: SessionFiles, pending: PendingSetup): Promise<void> {
    const { nix, pushMode } = pending;
    const { plan: wanted, ...decided } = await this.#decide(access, nix);
    // What kept a hook from being used when the job began.
    const plan = wanted?.pushMode === "hook" ? { ...wanted, pushMode } : wanted;
    const state = { ...decided, plan };
    const { secret, job, startedAt } = await readSettings(files);
    if (access.token !== undefined) await writeSessionFile(files.token, `${access.token}\n`);
    const settings = await planAgent(access, state, { request: this.#request, secret });
    await writeSettings(files, { ...settings, job, startedAt });
    const before = await readReport(files);
    const { socket } = await readSession(files);
    await createControlClient(socket).reload();
    const session = await readSession(files);
    await this.#configure(access, { ...state, files, session, secret, kinds: [], before });
  }

  /** The job has a session: only what it does not have yet is configured, the rest is reported. */
  async extend(earlier: EarlierRun): Promise<SetupResult> {
    const { files, report } = earlier;
    const kinds = this.#request.kinds.filter((kind) => !report.kinds.includes(kind));
    const result =
      kinds.length === 0
        ? { ...report.result, existing: true, warnings: [], timings: this.#stopwatch.timings() }
        : earlier.settings.address === undefined
          ? await this.#addPending(earlier, kinds)
          : await this.#add(earlier, kinds);
    const added = (await readReport(files)) ?? report;
    const unused = findUnused(this.#request, { ...earlier, report: added });
    if (unused.length === 0) return result;
    const message = `The job's cache is set up already, with the view ${result.cache} of ${earlier.settings.server}: ${unused.join(", ")}, which this step names, is not used.`;
    const hint = "Name it in the job's first step that sets the cache up.";
    await writeState(files.report, {
      ...added,
      unused: [...new Set([...(added.unused ?? []), ...unused])],
    });
    const warnings = [...result.warnings, { code: "not-used", message, hint }];
    return { ...result, reason: message, warnings };
  }

  /** The agent still asks: it is to configure these kinds as well when it is answered. */
  async #addPending(earlier: EarlierRun, kinds: readonly SetupKind[]): Promise<SetupResult> {
    const { files } = earlier;
    const pending = await claimPendingSetup(files);
    if (pending !== undefined) {
      try {
        return await this.#add(earlier, kinds);
      } finally {
        await writePendingSetup(
          files,
          widenPendingSetup(pending, kinds, this.#request, this.#found),
        );
      }
    }
    // It is being answered, or has given up.
    const settings = await waitUntilReached(files, this.#context.signal);
    const report = (await readReport(files)) ?? earlier.report;
    if (settings !== undefined) return this.#add({ ...earlier, settings, report }, kinds);
    this.news.warn(
      "not-reached",
      `The cache was not reached: ${kinds.join(" and ")} is left alone.`,
    );
    const timings = this.#stopwatch.timings();
    return { ...report.result, existing: true, warnings: this.news.warnings, timings };
  }

  async #add(earlier: EarlierRun, kinds: readonly SetupKind[]): Promise<SetupResult> {
    const { files, settings, report } = earlier;
    const isPending = settings.address === undefined;
    const canPush = isPending ? wantsWrite(this.#request) : settings.write !== undefined;
    const nix = kinds.includes("nix") ? await this.#tools.detectNix(files) : undefined;
    const wanted = nix === undefined ? undefined : planNix(nix, this.#request, canPush);
    const plan = await this.#tools.settleHook(wanted, nix, files);
    this.#found = { nix, pushMode: plan?.pushMode };
    const access = { ...accessOf(earlier), token: await readTokenFile(files.token) };
    const extra = await this.#openExtra(access, nix, plan);
    const uploads = planUploads(nix, plan, this.#request) ?? settings.uploads;
    const isBazelWanted = kinds.includes("bazel") && (await this.#tools.requireBazel(access));
    const bazel = isBazelWanted ? planBazel(access, this.#request) : settings.bazel;
    const face = planNixFace(plan, extra, this.#request) ?? settings.nix;
    await writeSettings(files, { ...settings, uploads, bazel, nix: face });
    await createControlClient(earlier.session.socket).reload();
    return this.#configure(access, {
      ...{ files, nix, plan, extra, canPush, isBazelWanted, kinds, secret: settings.secret },
      session: await readSession(files),
      before: report,
    });
  }

  /** What Nix is to read besides the job's own view. */
  async #openExtra(
    access: Access,
    nix: NixFacts | undefined,
    plan: NixPlan | undefined,
  ): Promise<ExtraViews> {
    if (nix === undefined || plan?.canSubstitute !== true || access.isPending === true) {
      return NO_EXTRA_VIEWS;
    }
    const { signal } = this.#context;
    const extra = await openExtraViews(this.#request.extraViews, access, { nix, signal });
    if (extra.warning !== undefined) this.news.warnings.push(extra.warning);
    return extra;
  }

  async #start(access: Access, early: EarlyAgent, given: StartState): Promise<SetupResult> {
    const secret = randomBytes(24).toString("base64url");
    let prepared: Awaited<ReturnType<EarlyAgent["take"]>> | undefined;
    let session: AgentSession;
    let state = given;
    try {
      prepared = await early.take();
      const { files, agent } = prepared;
      if (access.token !== undefined) {
        await writeFile(files.token, `${access.token}\n`, { mode: 0o600 });
      }
      state = { ...given, plan: await this.#tools.settleHook(given.plan, given.nix, files) };
      await appendToQueue(files.queue, state.leftPaths);
      if (access.isPending === true) {
        await writePendingSetup(files, {
          // It lies in a file of its own.
          request: { ...this.#request, token: undefined },
          nix: state.nix,
          pushMode: state.plan?.pushMode ?? "none",
          workingDirectory: this.#context.workingDirectory,
        });
      }
      await writeSettings(
        files,
        await planAgent(access, state, { request: this.#request, secret }),
      );
      session = await this.#stopwatch.time("agentMs", () => agent.begin(this.#context.signal));
    } catch (error) {
      if (prepared !== undefined) await discardSession(prepared);
      return this.news.without(
        "degraded",
        `The agent could not be started: ${describeError(error)}`,
      );
    }
    const { kinds } = this.#request;
    const { files } = prepared;
    return this.#configure(access, { ...state, files, session, secret, kinds, before: undefined });
  }

  #configure(access: Access, state: ConfigureState): Promise<SetupResult> {
    return configureJob(access, state, {
      request: this.#request,
      context: this.#context,
      stopwatch: this.#stopwatch,
      news: this.news,
      tools: this.#tools,
    });
  }

  /** Half of the time at most is the server's and the forge's: the rest of the work is this machine's. */
  #serverMs(): number {
    const { timeoutSeconds, waitSeconds = timeoutSeconds } = this.#request;
    return Math.min(timeoutSeconds * 500, waitSeconds * 1000);
  }
}

type EarlierRun = Extract<EarlierSession, { kind: "running" }>;

interface StartState extends DecidedState {
  /** What the agent of an earlier session left to push. */
  readonly leftPaths: readonly string[];
}

/** Whether a hook comes into question, whatever the server and Nix say. */
function mayHook(request: SetupRequest): boolean {
  const { kinds, pushMode } = request;
  return kinds.includes("nix") && wantsWrite(request) && ["auto", "hook"].includes(pushMode);
}
