import { type CircuitBreaker, createByteBudget } from "@glorious/core";
import { parseNixCacheInfo, parsePublicKey, type PublicKey } from "@glorious/nix-store";

import { type AddressGuard, createAddressGuard } from "./address-guard.ts";
import { type NarBody, readNarBody } from "./nar-body.ts";
import { isFaultOfTheWay, UpstreamFault } from "./upstream-fault.ts";
import {
  createUpstreamHttp,
  readSmallBody,
  SMALL_CONNECTIONS,
  type UpstreamHttp,
  type Via,
  type UpstreamResponse,
} from "./upstream-http.ts";
import { type UpstreamNarInfo, verifyUpstreamNarInfo } from "./upstream-narinfo.ts";
import type { UpstreamReports } from "./upstream-reports.ts";
import { createUpstreamStanding } from "./upstream-standing.ts";

/** What has to be known of an upstream to ask it. */
export interface UpstreamTarget {
  readonly name: string;
  /** With a final slash. */
  readonly url: string;
  /** `name:base64` each. */
  readonly publicKeys: readonly string[];
  /** The value of its `Authorization` header. Secret. */
  readonly authorization: string | undefined;
  readonly storeDir: string;
}

/** `absent`: it does not have it, or nothing that can be believed. `unknown`: that could not be found out now. */
export type UpstreamMiss = "absent" | "unknown";

/** For whom it is asked. */
export interface UpstreamQuestion {
  readonly via: Via;
  readonly signal: AbortSignal;
  /** Asked when its turn comes: what nobody waits for any more is not sent, and `unknown`. Default always. */
  readonly isWanted?: () => boolean;
}

/** Talks to one upstream. Whatever goes wrong is a miss, reported once; only {@link UpstreamClient.openNar} throws. */
export interface UpstreamClient extends AsyncDisposable {
  /** A narinfo that is signed by one of the upstream's keys. */
  narInfo(
    storePathHash: string,
    question: UpstreamQuestion,
  ): Promise<UpstreamNarInfo | UpstreamMiss>;
  /** A small file below the upstream's address, which nobody has checked. */
  document(
    path: string,
    maxBytes: number,
    question: UpstreamQuestion,
  ): Promise<Buffer | UpstreamMiss>;
  /** @throws {UpstreamFault} for every miss; nobody has counted or logged that yet. */
  openNar(narInfo: UpstreamNarInfo, signal: AbortSignal): Promise<NarBody>;
  /** How a NAR that was opened ended, for the breaker and the log. */
  reportNar(narInfo: UpstreamNarInfo, fault?: UpstreamFault): void;
  /** Whether it is asked at all at present; when it is not, this may find out whether it is back. */
  admits(): boolean;
  /** Whether questions pass (`closed`), none does (`open`), or one is out to try. */
  readonly state: CircuitBreaker["state"];
}

export interface UpstreamClientOptions {
  /** The most that a look-up waits. */
  readonly deadlineMs: number;
  readonly maxNarInfoBytes: number;
  /** Of a NAR, uncompressed. */
  readonly maxNarBytes: number;
  readonly maxDownloads: number;
  readonly reports: Pick<UpstreamReports, "fault">;
  /** How long the head of a NAR may take, and how long nothing of its body may come; default twice the deadline. */
  readonly narTimeoutMs?: number;
  readonly guard?: AddressGuard;
}

const MAX_CACHE_INFO_BYTES = 64 * 1024;
/** A file may be this much larger than its NAR: what is random does not shrink. */
const FILE_OVERHEAD_BYTES = 2 ** 20;
/**
 * A path that nobody has, as good as any: a front may have `nix-cache-info` while all behind it hangs, and what hung may be
 * the only one that does.
 */
const PROBE = `${"0".repeat(32)}.narinfo`;
/** What is true of an upstream as a whole is asked again after this. */
const CACHE_INFO_AGE_MS = 3_600_000;

export function createUpstreamClient(
  target: UpstreamTarget,
  options: UpstreamClientOptions,
): UpstreamClient {
  const { deadlineMs, narTimeoutMs = 2 * options.deadlineMs } = options;
  const base = new URL(target.url);
  const publicKeys: readonly PublicKey[] = target.publicKeys.map(parsePublicKey);
  const http: UpstreamHttp = createUpstreamHttp({
    origin: base.origin,
    authorization: target.authorization,
    guard: options.guard ?? createAddressGuard(base.hostname),
    maxNars: options.maxDownloads,
  });
  const closing = new AbortController();
  const turns = createByteBudget(SMALL_CONNECTIONS);
  const standing = createUpstreamStanding({
    name: target.name,
    hasCredential: target.authorization !== undefined,
    reports: options.reports,
    signal: closing.signal,
  });
  const { report, requireContent } = standing;

  /** Gets something small, whole, within the deadline. @throws {UpstreamFault} */
  const getSmall = async (
    path: string,
    maxBytes: number,
    { signal, via, isWanted = () => true }: UpstreamQuestion,
  ): Promise<Buffer | "absent"> => {
    using _ = await turns.acquire(1, AbortSignal.any([signal, closing.signal]));
    if (!isWanted()) throw new Unwanted();
    // From here on it is the upstream that takes its time.
    const late = AbortSignal.timeout(deadlineMs);
    let response: UpstreamResponse | "absent" | undefined;
    try {
      response = requireContent(
        await http.get(new URL(path, base), {
          via,
          signal: AbortSignal.any([signal, late, closing.signal]),
        }),
      );
      return response === "absent" ? response : await readSmallBody(response, maxBytes);
    } catch (error) {
      signal.throwIfAborted();
      closing.signal.throwIfAborted();
      if (!late.aborted) throw error;
      throw response === undefined
        ? new UpstreamFault("timeout", `no answer within ${deadlineMs} ms`, error)
        : new UpstreamFault("stalled", `half an answer within ${deadlineMs} ms`, error);
    }
  };

  /** Whether its paths are of the store directory that it is for. A cache need not say. @throws {UpstreamFault} */
  const checkStoreDir = async (signal: AbortSignal): Promise<void> => {
    const bytes = await getSmall("nix-cache-info", MAX_CACHE_INFO_BYTES, { signal, via: [] });
    if (bytes === "absent") return;
    let storeDir: string;
    try {
      ({ storeDir } = parseNixCacheInfo(bytes.toString("utf8")));
    } catch (cause) {
      throw new UpstreamFault("not-narinfo", "its nix-cache-info is none", cause);
    }
    if (storeDir === target.storeDir) return;
    throw new UpstreamFault("store-dir", `it has paths of ${storeDir}, not of ${target.storeDir}`);
  };

  let checked: { readonly outcome: Promise<boolean>; readonly atMs: number } | undefined;
  /** Asked beside the first question, so that it costs no round trip. */
  const hasStoreDir = (): Promise<boolean> => {
    if (checked === undefined || performance.now() - checked.atMs > CACHE_INFO_AGE_MS) {
      const outcome = checkStoreDir(closing.signal).then(
        () => true,
        (error: unknown) => {
          if (!(error instanceof UpstreamFault) || error.reason !== "store-dir") {
            // Not known: the narinfos say themselves where they belong.
            checked = undefined;
            return true;
          }
          report(error, "nix-cache-info");
          return false;
        },
      );
      checked = { outcome, atMs: performance.now() };
    }
    return checked.outcome;
  };

  /** Asks for the head of a large file; the body has a pace of its own. @throws {UpstreamFault} */
  const openFile = async (
    address: URL,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<UpstreamResponse> => {
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), narTimeoutMs);
    try {
      const request = { isNar: true, headers, signal: AbortSignal.any([signal, late.signal]) };
      const response = requireContent(await http.get(address, request));
      if (response !== "absent") return response;
      throw new UpstreamFault("nar-missing", "the NAR of its narinfo is not there");
    } catch (error) {
      signal.throwIfAborted();
      if (!late.signal.aborted) throw error;
      throw new UpstreamFault("timeout", `no NAR within ${narTimeoutMs} ms`, error);
    } finally {
      clearTimeout(timer);
    }
  };

  /** Asks whether it is back, while nobody waits for that. */
  const probe = async (): Promise<void> => {
    try {
      await getSmall(PROBE, options.maxNarInfoBytes, { signal: closing.signal, via: [] });
      report(undefined, PROBE);
    } catch (error) {
      if (error instanceof UpstreamFault) report(error, PROBE);
    }
  };

  const isAdmitted = (): boolean => {
    const admission = standing.admit();
    if (admission === "probe") void probe();
    return admission === "pass";
  };

  const ask = async <Found>(
    subject: string,
    get: () => Promise<Found | "absent">,
    signal: AbortSignal,
  ): Promise<Found | UpstreamMiss> => {
    if (closing.signal.aborted || !isAdmitted()) return "unknown";
    try {
      const found = await get();
      report(undefined, subject);
      return found;
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof Unwanted) return "unknown";
      if (error instanceof UpstreamFault) {
        report(error, subject);
        return isFaultOfTheWay(error.reason) ? "unknown" : "absent";
      }
      if (!closing.signal.aborted) throw error;
      return "unknown";
    }
  };

  return {
    narInfo(storePathHash, question) {
      const subject = `${storePathHash}.narinfo`;
      const get = async (): Promise<UpstreamNarInfo | "absent"> => {
        const isRight = hasStoreDir();
        const bytes = await getSmall(subject, options.maxNarInfoBytes, question);
        if (bytes === "absent" || !(await isRight)) return "absent";
        const { storeDir } = target;
        return verifyUpstreamNarInfo(bytes.toString("utf8"), {
          storePathHash,
          storeDir,
          publicKeys,
        });
      };
      return ask(subject, get, question.signal);
    },
    document(path, maxBytes, question) {
      const get = async (): Promise<Buffer | "absent"> => {
        try {
          return await getSmall(path, maxBytes, question);
        } catch (error) {
          // Logs and listings may be of any size: one that is too large to come in time says nothing of the others.
          if (!isOfLargeFile(error)) throw error;
          options.reports.fault(target.name, error, path);
          return "absent";
        }
      };
      return ask(path, get, question.signal);
    },
    async openNar(narInfo, signal) {
      const { url, manifest, fileSize } = narInfo;
      if (!isAdmitted()) throw new UpstreamFault("unreachable", "it is left alone for a while");
      const address = URL.parse(url, base.href);
      if (address?.protocol !== "http:" && address?.protocol !== "https:") {
        throw new UpstreamFault("not-narinfo", "the narinfo's URL leads to no address of the web");
      }
      const whole = AbortSignal.any([signal, closing.signal]);
      const open = (headers: Readonly<Record<string, string>>): Promise<UpstreamResponse> =>
        openFile(address, headers, whole);
      return readNarBody(await open({}), {
        open,
        fileSize,
        maxBytes: Math.min(manifest.narSize, options.maxNarBytes) * 1.02 + FILE_OVERHEAD_BYTES,
        idleTimeoutMs: narTimeoutMs,
        signal: whole,
      });
    },
    reportNar: ({ manifest }, fault) => report(fault, `the NAR of ${manifest.storePath}`),
    admits: () => !closing.signal.aborted && isAdmitted(),
    get state() {
      return standing.state;
    },
    async [Symbol.asyncDispose]() {
      closing.abort(new UpstreamFault("unreachable", "the server is stopping"));
      await http[Symbol.asyncDispose]();
    },
  };
}

function isOfLargeFile(error: unknown): error is UpstreamFault {
  if (!(error instanceof UpstreamFault)) return false;
  return error.reason === "too-large" || error.reason === "stalled";
}

/** Nobody waits for the answer any more. */
class Unwanted extends Error {}
