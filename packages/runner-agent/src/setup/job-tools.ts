import { rm } from "node:fs/promises";

import type { BazelRelease } from "@glorious/cache-client";

import type { SessionFiles } from "../session/session-files.ts";
import { detectNix, type NixFacts } from "./detect-nix.ts";
import type { Access } from "./open-access.ts";
import { findBazelRelease, hasBazel } from "./setup-bazel.ts";
import type { SetupNews } from "./setup-news.ts";
import { type NixPlan, withoutHook } from "./setup-nix.ts";
import {
  type BazelRequest,
  DEFAULT_BAZEL,
  type SetupContext,
  type SetupRequest,
} from "./setup-request.ts";
import { tryHook, writeHook } from "./try-hook.ts";

/** Nix, Bazel and the hook of a job: what there is of them is found out once, and told where it is missing. */
export class JobTools implements Disposable {
  readonly #request: SetupRequest;
  readonly #context: SetupContext;
  readonly #news: SetupNews;
  readonly #over = new AbortController();
  #release: Promise<BazelRelease> | undefined;
  /** What is in the way of a hook that was written before anybody knew whether it is wanted. */
  #hook: Promise<string | undefined> | undefined;

  constructor(request: SetupRequest, context: SetupContext, news: SetupNews) {
    this.#request = request;
    this.#context = context;
    this.#news = news;
  }

  /** Whatever nobody has waited for is given up. */
  [Symbol.dispose](): void {
    this.#over.abort();
  }

  /** What Bazel was asked for. */
  get bazel(): BazelRequest {
    return this.#request.bazel ?? DEFAULT_BAZEL;
  }

  /** The Bazel that is here; asked once, by who comes first. */
  bazelRelease(): Promise<BazelRelease> {
    this.#release ??= findBazelRelease(this.bazel, {
      env: this.#context.env,
      workspace: this.#workspace(),
      signal: AbortSignal.any([this.#context.signal, this.#over.signal]),
    });
    return this.#release;
  }

  /** Whether Bazel is to be configured, and can be. */
  async requireBazel({ server, bazelUrl, isPending }: Access): Promise<boolean> {
    if (!this.#request.kinds.includes("bazel")) return false;
    if (bazelUrl === undefined && isPending !== true) {
      this.#news.lack("no-bazel", `${server} serves no Bazel cache.`);
      return false;
    }
    const isThere = await hasBazel(this.bazel, {
      env: this.#context.env,
      workspace: this.#workspace(),
    });
    if (isThere) return true;
    const hint = "Name Bazel's version with the input bazel-version, or in .bazelversion.";
    this.#news.lack("no-bazel", "There is no Bazel in PATH.", hint);
    return false;
  }

  /** The Nix that is here; `undefined` where none is wanted, or it is of no use. */
  async detectNix(files: SessionFiles | Promise<SessionFiles>): Promise<NixFacts | undefined> {
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
        this.#news.lack("no-nix", "There is no Nix in PATH.", hint);
      }
      return nix;
    } catch (error) {
      this.#news.fail("nix-fails", error);
      return undefined;
    }
  }

  /** Writes the hook before anybody knows whether it is wanted. Never rejects. */
  async writeHook(made: Promise<SessionFiles>): Promise<void> {
    this.#hook = this.#write(made);
    await this.#hook;
  }

  /** A hook is used only after it has worked, and does not stay where it is not used. */
  async settleHook(
    plan: NixPlan | undefined,
    nix: NixFacts | undefined,
    files: SessionFiles,
  ): Promise<NixPlan | undefined> {
    if (nix === undefined || plan?.pushMode !== "hook") {
      if (this.#hook !== undefined) await rm(files.hook, { force: true });
      return plan;
    }
    const trouble = await (this.#hook ?? writeHook(files, this.#context));
    const why = trouble ?? (await tryHook(nix, files, this.#context));
    return withoutHook(plan, why, this.#request);
  }

  /** Who starts the agent says that there is no folder. */
  async #write(made: Promise<SessionFiles>): Promise<string | undefined> {
    const files = await made.catch(() => undefined);
    return files === undefined ? "there is no folder" : writeHook(files, this.#context);
  }

  #workspace(): string {
    const { env, workingDirectory } = this.#context;
    return this.#request.workspace ?? (env["GITHUB_WORKSPACE"] || workingDirectory);
  }
}
