import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";

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
import { type Access, namesServer, openAccess, wantsWrite } from "./open-access.ts";
import { accessOf, instanceNameOf, planBazel, planNixFace, planUploads } from "./plan-agent.ts";
import { configureBazel, findBazelRelease, hasBazel } from "./setup-bazel.ts";
import { configureNix, type NixPlan, planNix, withoutHook } from "./setup-nix.ts";
import type {
  BazelRequest,
  SetupKind,
  SetupRequest,
  SetupResult,
  SetupWarning,
} from "./setup-request.ts";
import { startStopwatch, type Stopwatch } from "./stopwatch.ts";
import { tryHook } from "./try-hook.ts";
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
    }
    const [access, nix] = await Promise.all([
      openAccess(this.#request, {
        env: this.#context.env,
        signal: AbortSignal.any([this.#context.signal, AbortSignal.timeout(this.#serverMs())]),
        stopwatch: this.#stopwatch,
      }),
      isNamed ? this.#detectNix(early.files()) : undefined,
    ]);
    if (access.kind === "none") return this.without(access.status, access.reason, access.hint);
    // A line that begins with `::` is a command to a forge's runner, and its log is read for them.
    this.#notes.push(...access.notices.map((notice) => `The server says: ${notice}`));
    const canPush = access.write !== undefined && wantsWrite(this.#request);
    if (!canPush && this.#request.push === "true") {
      this.#warn("no-push", `The job wants to push, and may not: ${access.reason}`);
    }
    const plan = nix === undefined ? undefined : planNix(nix, this.#request, canPush);
    const isBazelWanted = await this.#requireBazel(access);
    if (plan === undefined && !isBazelWanted) {
      const lacks = this.#lacks.join(" ") || "There is nothing to configure.";
      return this.without("degraded", this.#warnings[0]?.message ?? lacks);
    }
    const extra = await this.#openExtra(access, nix, plan);
    return await this.#start(access, early, {
      nix,
      plan,
      extra,
      canPush,
      isBazelWanted,
      leftPaths,
    });
  }

  /** The job has a session: only what it does not have yet is configured, the rest is reported. */
  async extend(earlier: EarlierRun): Promise<SetupResult> {
    const { files, report } = earlier;
    const kinds = this.#request.kinds.filter((kind) => !report.kinds.includes(kind));
    const result =
      kinds.length === 0
        ? { ...report.result, existing: true, warnings: [], timings: this.#stopwatch.timings() }
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

  async #add(earlier: EarlierRun, kinds: readonly SetupKind[]): Promise<SetupResult> {
    const { files, settings, report } = earlier;
    const canPush = settings.write !== undefined;
    const nix = kinds.includes("nix") ? await this.#detectNix(files) : undefined;
    const wanted = nix === undefined ? undefined : planNix(nix, this.#request, canPush);
    const plan = await this.#settleHook(wanted, nix, files);
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
  async #requireBazel({ server, bazelUrl }: Access): Promise<boolean> {
    if (!this.#request.kinds.includes("bazel")) return false;
    if (bazelUrl === undefined) {
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

  /** Half of the time is the server's and the forge's: the rest of the work is this machine's. */
  #serverMs(): number {
    return this.#request.timeoutSeconds * 500;
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
    if (nix === undefined || plan?.canSubstitute !== true) return NO_EXTRA_VIEWS;
    const { signal } = this.#context;
    const extra = await openExtraViews(this.#request.extraViews, access, { nix, signal });
    if (extra.warning !== undefined) this.#warnings.push(extra.warning);
    return extra;
  }

  /** A hook is used only after it has worked. */
  async #settleHook(
    plan: NixPlan | undefined,
    nix: NixFacts | undefined,
    files: SessionFiles,
  ): Promise<NixPlan | undefined> {
    if (nix === undefined || plan?.pushMode !== "hook") return plan;
    return withoutHook(plan, await tryHook(nix, files, this.#context), this.#request);
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
      address: {
        kind: access.upstream,
        substituterUrl: access.substituterUrl,
        api: access.api,
      },
      write: canPush ? access.write : undefined,
      status: canPush ? "ready" : "read-only",
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
      ATTIC_CACHE: access.view,
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
    const status: SessionStatus = isBroken ? "degraded" : canPush ? "ready" : "read-only";
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
      cache: access.view,
      extraCaches:
        substituter === undefined
          ? (before?.result.extraCaches ?? [])
          : extra.views.map(({ view }) => view),
      ...(access.trust !== undefined && { trust: access.trust }),
      canPush,
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
    if (canPush || access.write === undefined) return access.reason;
    const { push, cacheMode } = this.#request;
    if (push === "false") return "The job wants to write nothing: push is false.";
    return `The workflow forbids to write: ACTIONS_CACHE_MODE is ${cacheMode ?? "read"}.`;
  }

  /** Never rejects. */
  async #configureBazel(access: Access, state: ConfigureState): Promise<SetupResult["bazel"]> {
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

interface StartState {
  readonly nix: NixFacts | undefined;
  readonly plan: NixPlan | undefined;
  readonly extra: ExtraViews;
  readonly canPush: boolean;
  readonly isBazelWanted: boolean;
  /** What the agent of an earlier session left to push. */
  readonly leftPaths: readonly string[];
}

interface ConfigureState extends Omit<StartState, "leftPaths"> {
  readonly files: SessionFiles;
  readonly session: AgentSession;
  readonly secret: string;
  /** What is to be configured. */
  readonly kinds: readonly SetupKind[];
  readonly before: SessionReport | undefined;
}

/** Warnings that take nothing away from what was asked for. */
const HARMLESS: ReadonlySet<string> = new Set(["no-hook", "no-push", "extra-caches"]);
