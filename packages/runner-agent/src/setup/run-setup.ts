import { randomBytes } from "node:crypto";
import { rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";

import type { BazelRelease } from "@glorious/cache-client";
import { CacheError, describeError, isCacheError } from "@glorious/core";

import { createControlClient } from "../control/control-client.ts";
import { SESSION_VARIABLE } from "../session/find-session.ts";
import { findJobProcess, identifyProcess } from "../session/process-identity.ts";
import type { SessionFiles } from "../session/session-files.ts";
import {
  type AgentSession,
  type AgentSettings,
  readSession,
  readSettings,
  writeSessionFile,
  writeSettings,
  writeState,
} from "../session/session-state.ts";
import type { SessionStatus } from "../statistics.ts";
import { appendToQueue } from "../uploads/spool.ts";
import { readTokenFile } from "../uploads/upload-target.ts";
import { detectNix, type NixFacts } from "./detect-nix.ts";
import {
  type EarlierSession,
  findEarlierSession,
  readReport,
  type SessionReport,
} from "./earlier-session.ts";
import { createEarlyAgent, discardSession, type EarlyAgent } from "./early-agent.ts";
import { type ExtraViews, NO_EXTRA_VIEWS, openExtraViews } from "./extra-views.ts";
import {
  type Access,
  namesServer,
  type NoAccess,
  openAccess,
  pendingAccess,
  wantsWrite,
} from "./open-access.ts";
import {
  claimPendingSetup,
  type PendingSetup,
  readPendingSetup,
  waitForPendingSetup,
  waitUntilReached,
  widenPendingSetup,
  writePendingSetup,
} from "./pending-setup.ts";
import { accessOf, instanceNameOf, planBazel, planNixFace, planUploads } from "./plan-agent.ts";
import { configureBazel, findBazelRelease, hasBazel, reserveBazelRc } from "./setup-bazel.ts";
import { configureNix, type NixPlan, planNix, withoutHook } from "./setup-nix.ts";
import type {
  BazelRequest,
  PushMode,
  SetupKind,
  SetupRequest,
  SetupResult,
  SetupWarning,
} from "./setup-request.ts";
import { startStopwatch, type Stopwatch } from "./stopwatch.ts";
import { tryHook, writeHook } from "./try-hook.ts";
import { findUnused } from "./unused-names.ts";

/** The world that a set-up runs in. */
export interface SetupContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** How this command line is run: program and arguments. */
  readonly self: readonly string[];
  readonly workingDirectory: string;
  readonly signal: AbortSignal;
}

/** An agent that nobody ends, because its job is gone without a trace, ends by itself. */
const MAX_AGE_SECONDS = 36 * 3600;
/** What is left to be cleaned up with when the time is up: a fifth of it, and no more than that. */
const MAX_RESERVE_MS = 2000;

const DEFAULT_BAZEL: BazelRequest = { rc: "user", compression: true, download: "toplevel" };

/**
 * Sets a job up: finds out what it may do, starts its agent, and points Nix and Bazel to it. What cannot be done is
 * said in the result; the job goes on without.
 *
 * Takes no longer than the request allows, and rejects for nothing but a mistake of ours.
 */
export async function runSetup(given: SetupRequest, context: SetupContext): Promise<SetupResult> {
  const stopwatch = startStopwatch();
  const cacheMode = given.cacheMode ?? context.env["ACTIONS_CACHE_MODE"];
  const request: SetupRequest = { ...given, cacheMode };
  const givenMs = request.timeoutSeconds * 1000;
  const limitMs = givenMs - Math.min(MAX_RESERVE_MS, givenMs / 5);
  const signal = AbortSignal.any([context.signal, AbortSignal.timeout(limitMs)]);
  using setup = new Setup(request, { ...context, signal }, stopwatch);
  if (cacheMode === "none") {
    return setup.nothing("disabled", "The workflow forbids caches: ACTIONS_CACHE_MODE is none.");
  }
  try {
    const earlier = await findEarlierSession(context.env);
    if (earlier.kind === "none") return await setup.run(earlier.leftPaths);
    return await setup.extend(earlier);
  } catch (error) {
    if (!isCacheError(error)) throw error;
    return setup.without("degraded", describeError(error));
  }
}

/** How long the agent goes on asking at least: nobody waits for it. */
const MIN_ASKING_MS = 30_000;
const ASKING_PAUSE_MS = 1000;

/**
 * Finishes, in the agent, a set-up that did not wait for the server: asks until it answers or the time that the request
 * allows is over, half a minute at least. What setup would have written is written then, and the report is another one.
 *
 * Never rejects.
 *
 * @returns What the job's people are to know when nothing came of it.
 */
export async function completeSetup(
  files: SessionFiles,
  { env, self, signal: ended }: Omit<SetupContext, "workingDirectory">,
): Promise<string | undefined> {
  try {
    const { workingDirectory, request: asked } = await readPendingSetup(files);
    const request = { ...asked, token: await readTokenFile(files.token) };
    const limit = AbortSignal.timeout(Math.max(request.timeoutSeconds * 1000, MIN_ASKING_MS));
    const signal = AbortSignal.any([ended, limit]);
    const stopwatch = startStopwatch();
    let access = await openAccess(request, { env, signal, stopwatch });
    while (access.kind === "none" && access.status === "degraded" && !signal.aborted) {
      await sleep(ASKING_PAUSE_MS, undefined, { signal }).catch(() => {});
      if (!signal.aborted) access = await openAccess(request, { env, signal, stopwatch });
    }
    if (access.kind === "none") {
      await noteFailure(files, access);
      await rm(files.pending, { force: true });
      return access.status === "disabled"
        ? access.reason
        : `The cache was not reached: ${access.reason}`;
    }
    const pending = await waitForPendingSetup(files, ended);
    const context = { env, self, workingDirectory, signal: ended };
    using setup = new Setup({ ...request, ...pending.request }, context, stopwatch);
    await setup.complete(access, files, pending);
    return undefined;
  } catch (error) {
    return `The cache could not be set up when it was reached: ${describeError(error)}`;
  }
}

async function noteFailure(files: SessionFiles, { status, reason }: NoAccess): Promise<void> {
  const report = await readReport(files);
  if (report !== undefined) {
    await writeState(files.report, { ...report, result: { ...report.result, status, reason } });
  }
  await writeSettings(files, { ...(await readSettings(files)), status });
  await createControlClient((await readSession(files)).socket).reload();
}

class Setup implements Disposable {
  readonly #request: SetupRequest;
  readonly #context: SetupContext;
  readonly #stopwatch: Stopwatch;
  readonly #warnings: SetupWarning[] = [];
  readonly #notes: string[] = [];
  /** Tools that are not here: of no interest to who gets nothing at all. */
  readonly #lacks: string[] = [];
  readonly #over = new AbortController();
  #release: Promise<BazelRelease> | undefined;
  /** What is in the way of a hook that was written before anybody knew whether it is wanted. */
  #hook: Promise<string | undefined> | undefined;
  #found: { readonly nix?: NixFacts | undefined; readonly pushMode?: PushMode | undefined } = {};

  constructor(request: SetupRequest, context: SetupContext, stopwatch: Stopwatch) {
    this.#request = request;
    this.#context = context;
    this.#stopwatch = stopwatch;
  }

  /** Whatever nobody has waited for is given up. */
  [Symbol.dispose](): void {
    this.#over.abort();
  }

  async run(leftPaths: readonly string[]): Promise<SetupResult> {
    const { env, self } = this.#context;
    const parent = this.#request.temporaryDirectory ?? (env["RUNNER_TEMP"] || tmpdir());
    await using early = createEarlyAgent(parent, { self, env, drainOnly: false });
    const isNamed = namesServer(this.#request, env);
    if (isNamed) {
      early.launch();
      if (this.#request.kinds.includes("bazel")) void this.#bazelRelease().catch(() => {});
      if (mayHook(this.#request)) this.#hook = this.#writeHook(early.files());
    }
    const [access, nix] = await Promise.all([
      openAccess(this.#request, {
        env: this.#context.env,
        signal: AbortSignal.any([this.#context.signal, AbortSignal.timeout(this.#serverMs())]),
        stopwatch: this.#stopwatch,
      }),
      isNamed ? this.#detectNix(early.files()) : undefined,
      // Nothing may be written into a folder that is on its way out.
      this.#hook,
    ]);
    if (access.kind === "none") {
      const { lateServer } = access;
      if (lateServer === undefined || this.#request.waitSeconds === undefined) {
        return this.without(access.status, access.reason, access.hint);
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
      const lacks = this.#lacks.join(" ") || "There is nothing to configure.";
      return this.without("degraded", this.#warnings[0]?.message ?? lacks);
    }
    return this.#start(access, early, { ...state, leftPaths });
  }

  /** What is to be configured, with this access. */
  async #decide(access: Access, nix: NixFacts | undefined): Promise<DecidedState> {
    // A line that begins with `::` is a command to a forge's runner, and its log is read for them.
    this.#notes.push(...access.notices.map((notice) => `The server says: ${notice}`));
    const mayPush = access.isPending === true || access.write !== undefined;
    const canPush = mayPush && wantsWrite(this.#request);
    if (!canPush && this.#request.push === "true") {
      this.#warn("no-push", `The job wants to push, and may not: ${access.reason}`);
    }
    const plan = nix === undefined ? undefined : planNix(nix, this.#request, canPush);
    const isBazelWanted = await this.#requireBazel(access);
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
    const settings = await this.#plan(access, { ...state, leftPaths: [] }, secret);
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
    this.#warn("not-reached", `The cache was not reached: ${kinds.join(" and ")} is left alone.`);
    const timings = this.#stopwatch.timings();
    return { ...report.result, existing: true, warnings: this.#warnings, timings };
  }

  async #add(earlier: EarlierRun, kinds: readonly SetupKind[]): Promise<SetupResult> {
    const { files, settings, report } = earlier;
    const isPending = settings.address === undefined;
    const canPush = isPending ? wantsWrite(this.#request) : settings.write !== undefined;
    const nix = kinds.includes("nix") ? await this.#detectNix(files) : undefined;
    const wanted = nix === undefined ? undefined : planNix(nix, this.#request, canPush);
    const plan = await this.#settleHook(wanted, nix, files);
    this.#found = { nix, pushMode: plan?.pushMode };
    const access = { ...accessOf(earlier), token: await readTokenFile(files.token) };
    const extra = await this.#openExtra(access, nix, plan);
    const uploads = planUploads(nix, plan, this.#request) ?? settings.uploads;
    const isBazelWanted = kinds.includes("bazel") && (await this.#requireBazel(access));
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

  /** The result of a set-up that changed nothing, with one warning at least. */
  without(status: SessionStatus, reason: string, hint?: readonly string[]): SetupResult {
    if (this.#warnings.length === 0) this.#warn(status, reason, hint?.join("\n"));
    return this.nothing(status, reason, hint);
  }

  /** The result of a set-up that was to change nothing. */
  nothing(status: SessionStatus, reason: string, hint?: readonly string[]): SetupResult {
    return {
      version: 1,
      status,
      reason,
      ...(hint !== undefined && { hint }),
      canPush: false,
      pushMode: "none",
      extraCaches: [],
      publicKeys: [],
      environment: { FLYWHEEL_STATUS: status },
      path: [],
      masks: [],
      warnings: this.#warnings,
      notes: this.#notes,
      existing: false,
      timings: this.#stopwatch.timings(),
    };
  }

  #warn(code: string, message: string, hint?: string): void {
    this.#warnings.push({ code, message, ...(hint !== undefined && { hint }) });
  }

  /** What was given up because the time is over has one reason, whatever it was. */
  #fail(code: string, error: unknown): void {
    if (!this.#context.signal.aborted) {
      const hint = error instanceof CacheError ? error.hint : undefined;
      this.#warn(code, error instanceof Error ? error.message : String(error), hint);
    } else if (!this.#warnings.some((warning) => warning.code === "too-slow")) {
      const { timeoutSeconds } = this.#request;
      this.#warn("too-slow", `The set-up was not done within its ${timeoutSeconds} s`);
    }
  }

  /** A tool that is missing is a trouble where it alone was asked for; others have what they asked for. */
  #lack(code: string, message: string, hint?: string): void {
    if (this.#request.kinds.length === 1) this.#warn(code, message, hint);
    else this.#lacks.push(message);
  }

  /** Whether Bazel is to be configured, and can be. */
  async #requireBazel({ server, bazelUrl, isPending }: Access): Promise<boolean> {
    if (!this.#request.kinds.includes("bazel")) return false;
    if (bazelUrl === undefined && isPending !== true) {
      this.#lack("no-bazel", `${server} serves no Bazel cache.`);
      return false;
    }
    const isThere = await hasBazel(this.#request.bazel ?? DEFAULT_BAZEL, {
      env: this.#context.env,
      workspace: this.#workspace(),
    });
    if (isThere) return true;
    const hint = "Name Bazel's version with the input bazel-version, or in .bazelversion.";
    this.#lack("no-bazel", "There is no Bazel in PATH.", hint);
    return false;
  }

  /** Half of the time at most is the server's and the forge's: the rest of the work is this machine's. */
  #serverMs(): number {
    const { timeoutSeconds, waitSeconds = timeoutSeconds } = this.#request;
    return Math.min(timeoutSeconds * 500, waitSeconds * 1000);
  }

  /** The Bazel that is here; asked once, by who comes first. */
  #bazelRelease(): Promise<BazelRelease> {
    this.#release ??= findBazelRelease(this.#request.bazel ?? DEFAULT_BAZEL, {
      env: this.#context.env,
      workspace: this.#workspace(),
      signal: AbortSignal.any([this.#context.signal, this.#over.signal]),
    });
    return this.#release;
  }

  #workspace(): string {
    const { env, workingDirectory } = this.#context;
    return this.#request.workspace ?? (env["GITHUB_WORKSPACE"] || workingDirectory);
  }

  async #detectNix(files: SessionFiles | Promise<SessionFiles>): Promise<NixFacts | undefined> {
    if (!this.#request.kinds.includes("nix")) return undefined;
    let folder: string;
    try {
      ({ folder } = await files);
    } catch {
      // Who starts the agent says it.
      return undefined;
    }
    try {
      const nix = await detectNix(this.#context.env, folder, this.#context.signal);
      if (nix === undefined) {
        const hint = "Install Nix before this step.";
        this.#lack("no-nix", "There is no Nix in PATH.", hint);
      }
      return nix;
    } catch (error) {
      this.#fail("nix-fails", error);
      return undefined;
    }
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
    if (extra.warning !== undefined) this.#warnings.push(extra.warning);
    return extra;
  }

  /** Who starts the agent says that there is no folder. */
  async #writeHook(made: Promise<SessionFiles>): Promise<string | undefined> {
    const files = await made.catch(() => undefined);
    return files === undefined ? "there is no folder" : writeHook(files, this.#context);
  }

  /** A hook is used only after it has worked. */
  async #settleHook(
    plan: NixPlan | undefined,
    nix: NixFacts | undefined,
    files: SessionFiles,
  ): Promise<NixPlan | undefined> {
    if (nix === undefined || plan?.pushMode !== "hook") return plan;
    const trouble = await (this.#hook ?? writeHook(files, this.#context));
    const why = trouble ?? (await tryHook(nix, files, this.#context));
    return withoutHook(plan, why, this.#request);
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
      state = { ...given, plan: await this.#settleHook(given.plan, given.nix, files) };
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
      await writeSettings(files, await this.#plan(access, state, secret));
      session = await this.#stopwatch.time("agentMs", () => agent.begin(this.#context.signal));
    } catch (error) {
      if (prepared !== undefined) await discardSession(prepared);
      return this.without("degraded", `The agent could not be started: ${describeError(error)}`);
    }
    const { kinds } = this.#request;
    const { files } = prepared;
    return this.#configure(access, { ...state, files, session, secret, kinds, before: undefined });
  }

  async #plan(
    access: Access,
    { nix, plan, extra, canPush, isBazelWanted }: StartState,
    secret: string,
  ): Promise<AgentSettings> {
    const request = this.#request;
    const job =
      request.jobPid === undefined
        ? await findJobProcess(process.pid)
        : await identifyProcess(request.jobPid);
    return {
      version: 1,
      server: access.server,
      view: access.view,
      address:
        access.isPending === true
          ? undefined
          : {
              kind: access.upstream,
              substituterUrl: access.substituterUrl,
              api: access.api,
            },
      write: canPush ? access.write : undefined,
      status: statusOf(access, canPush),
      credentials: access.credentials,
      secret,
      nix: planNixFace(plan, extra, request),
      bazel: isBazelWanted ? planBazel(access, request) : undefined,
      bazelUrl: access.bazelUrl,
      uploads: planUploads(nix, plan, request),
      drainTimeoutSeconds: request.drainTimeoutSeconds,
      maxAgeSeconds: MAX_AGE_SECONDS,
      job,
      startedAt: new Date().toISOString(),
    };
  }

  async #configure(access: Access, state: ConfigureState): Promise<SetupResult> {
    const { files, session, secret, canPush, nix, plan, extra, kinds, before } = state;
    const { faces } = session;
    this.#warnings.push(...(plan?.warnings ?? []));
    const environment: Record<string, string> = {
      [SESSION_VARIABLE]: files.folder,
      ATTIC_SERVER: access.server,
      ...(access.view !== "" && { ATTIC_CACHE: access.view }),
    };
    const newest = access.publicKeys.at(-1);
    if (newest !== undefined && before === undefined) environment["ATTIC_PUBLIC_KEY"] = newest;
    const publicKeys = [...new Set([...access.publicKeys, ...extra.publicKeys])];
    const configuringBazel = state.isBazelWanted ? this.#configureBazel(access, state) : undefined;
    let substituter: string | undefined;
    let pushMode = plan?.pushMode ?? before?.result.pushMode ?? "none";
    if (nix !== undefined && plan !== undefined) {
      const conf = {
        substituter: plan.canSubstitute ? faces.nix?.url : undefined,
        publicKeys,
        storeDir: access.storeDir,
        priority: this.#request.priority,
        pushMode: plan.pushMode,
      };
      try {
        Object.assign(environment, await configureNix(conf, nix, { ...this.#context, files }));
        substituter = conf.substituter;
      } catch (error) {
        this.#fail("nix-fails", error);
        if (pushMode === "hook") pushMode = "none";
      }
    }
    const bazel = await configuringBazel;
    if (bazel !== undefined && faces.bazel !== undefined) {
      environment["BAZEL_REMOTE_CACHE"] = faces.bazel.http;
    }
    const isBroken = this.#warnings.some(({ code }) => !HARMLESS.has(code));
    const status: SessionStatus = isBroken ? "degraded" : statusOf(access, canPush);
    environment["FLYWHEEL_STATUS"] = status;
    const trouble = this.#warnings.find(({ code }) => !HARMLESS.has(code));
    const hint = isBroken && trouble?.hint !== undefined ? [trouble.hint] : access.hint;
    const result: SetupResult = {
      ...before?.result,
      version: 1,
      status,
      reason: isBroken && trouble !== undefined ? trouble.message : this.#describe(access, canPush),
      ...(hint !== undefined && status !== "ready" && { hint }),
      session: files.folder,
      ...(access.tenant !== undefined && { tenant: access.tenant }),
      ...(access.view !== "" && { cache: access.view }),
      extraCaches:
        substituter === undefined
          ? (before?.result.extraCaches ?? [])
          : extra.views.map(({ view }) => view),
      ...(access.trust !== undefined && { trust: access.trust }),
      canPush: canPush && access.isPending !== true,
      pushMode,
      ...(substituter !== undefined && { substituter }),
      publicKeys,
      ...(bazel !== undefined && { bazel }),
      environment: { ...before?.result.environment, ...environment },
      path: [],
      masks: access.token === undefined ? [secret] : [access.token, secret],
      warnings: this.#warnings,
      notes: [...this.#notes, ...this.#lacks],
      existing: before !== undefined,
      timings: this.#stopwatch.timings(),
    };
    const report: SessionReport = {
      ...before,
      result: { ...result, masks: [] },
      kinds: [...(before?.kinds ?? []), ...kinds],
    };
    await writeState(files.report, report);
    await this.#tellStatus(state, status);
    return result;
  }

  /** The agent began with what was planned; its summary is to say what came of it. */
  async #tellStatus({ files, session }: ConfigureState, status: SessionStatus): Promise<void> {
    const settings = await readSettings(files);
    if (settings.status === status) return;
    await writeSettings(files, { ...settings, status });
    await createControlClient(session.socket).reload();
  }

  #describe(access: Access, canPush: boolean): string {
    if (canPush || access.isPending === true || access.write === undefined) return access.reason;
    const { push, cacheMode } = this.#request;
    if (push === "false") return "The job wants to write nothing: push is false.";
    return `The workflow forbids to write: ACTIONS_CACHE_MODE is ${cacheMode ?? "read"}.`;
  }

  /** Never rejects. */
  async #configureBazel(access: Access, state: ConfigureState): Promise<SetupResult["bazel"]> {
    if (access.isPending === true) {
      const given = { files: state.files, env: this.#context.env };
      const bazel = this.#request.bazel ?? DEFAULT_BAZEL;
      this.#warnings.push(...(await reserveBazelRc(bazel, given).catch(() => [])));
      return undefined;
    }
    const face = state.session.faces.bazel;
    if (face === undefined) return undefined;
    const { env } = this.#context;
    try {
      const { bazel, warnings } = await configureBazel(
        {
          request: this.#request.bazel ?? DEFAULT_BAZEL,
          release: () => this.#bazelRelease(),
          face,
          secret: state.secret,
          instanceName: instanceNameOf(access.view, this.#request),
          canPush: state.canPush,
        },
        { files: state.files, env },
      );
      this.#warnings.push(...warnings);
      return bazel;
    } catch (error) {
      this.#fail("bazel-fails", error);
      return undefined;
    }
  }
}

type EarlierRun = Extract<EarlierSession, { kind: "running" }>;

interface DecidedState {
  readonly nix: NixFacts | undefined;
  readonly plan: NixPlan | undefined;
  readonly extra: ExtraViews;
  readonly canPush: boolean;
  readonly isBazelWanted: boolean;
}

interface StartState extends DecidedState {
  /** What the agent of an earlier session left to push. */
  readonly leftPaths: readonly string[];
}

interface ConfigureState extends DecidedState {
  readonly files: SessionFiles;
  readonly session: AgentSession;
  readonly secret: string;
  /** What is to be configured. */
  readonly kinds: readonly SetupKind[];
  readonly before: SessionReport | undefined;
}

/** Whether a hook comes into question, whatever the server and Nix say. */
function mayHook(request: SetupRequest): boolean {
  const { kinds, pushMode } = request;
  return kinds.includes("nix") && wantsWrite(request) && ["auto", "hook"].includes(pushMode);
}

function statusOf({ isPending }: Access, canPush: boolean): SessionStatus {
  if (isPending === true) return "pending";
  return canPush ? "ready" : "read-only";
}

/** Warnings that take nothing away from what was asked for. */
const HARMLESS: ReadonlySet<string> = new Set(["no-hook", "no-push", "extra-caches"]);
