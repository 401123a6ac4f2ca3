import { CacheError } from "@glorious/core";

import type { ScrubRun } from "../housekeeping/scrubber.ts";
import type { Exchange } from "../http/exchange.ts";
import type { Route } from "../http/router.ts";
import { sendJson } from "../http/send.ts";
import type { AffectedPath } from "../index/housekeeping-index.ts";
import type { RouteServices } from "./route-services.ts";

const MAX_WAIT_SECONDS = 30;
const MAX_QUARANTINED = 1000;
const MAX_PATHS_PER_OBJECT = 100;
const MAX_INSTANCES_PER_BLOB = 20;

/** For administrators: checking what is stored, and what was found bad. */
export function scrubRoutes(services: RouteServices): Route[] {
  const { index, gate, scrubber, logger, now } = services;

  const request = async (exchange: Exchange): Promise<void> => {
    gate.requireAdmin(exchange.caller);
    const maxAgeMs = readNumber(exchange, "maxAge") ?? 0;
    const checkedBefore = readTime(exchange, "checkedBefore");
    const bytesPerSecond = readNumber(exchange, "bytesPerSecond");
    if (bytesPerSecond === 0) throw new CacheError("INVALID", "No pass ends at 0 bytes per second");
    const wait = Math.min(readNumber(exchange, "wait") ?? 0, MAX_WAIT_SECONDS);
    const before = scrubber.requested();
    const run = scrubber.request({
      checkedBeforeMs: checkedBefore ?? now() - maxAgeMs * 1000,
      isContinued: checkedBefore !== undefined,
      bytesPerSecond,
    });
    if (run !== before && run.state === "running") {
      const { subject } = exchange.caller.claims ?? {};
      logger.info("a scrub was asked for", { subject });
    }
    if (wait > 0 && run.state === "running") await scrubber.wait(wait * 1000, exchange.signal);
    sendJson(exchange, describeRun(run));
  };

  const show = async (exchange: Exchange): Promise<void> => {
    gate.requireAdmin(exchange.caller);
    const latest = scrubber.latest();
    const lastFullPassAtMs = scrubber.lastFullPassAtMs();
    sendJson(exchange, {
      ...(latest && { pass: describeRun(latest) }),
      ...(lastFullPassAtMs !== undefined && { lastFullPassAt: toIso(lastFullPassAtMs) }),
      quarantined: await index.countQuarantined(),
    });
  };

  const listQuarantined = async (exchange: Exchange): Promise<void> => {
    gate.requireAdmin(exchange.caller);
    const total = await index.countQuarantined();
    const objects = [];
    for (const record of await index.listQuarantined({ limit: MAX_QUARANTINED })) {
      const { fileHash, fileSize } = record.object;
      const paths = await index.listPathsOfObject(fileHash, MAX_PATHS_PER_OBJECT);
      objects.push({
        fileHash,
        fileSize,
        reason: record.reason,
        quarantinedAt: toIso(record.atMs),
        pathsTotal: record.paths,
        paths: paths.map(describePath),
      });
    }
    sendJson(exchange, { total, objects });
  };

  const base = "/_flywheel/v1";
  return [
    { method: "POST", pattern: `${base}/scrub`, family: "flywheel", handler: request },
    { method: "GET", pattern: `${base}/scrub`, family: "flywheel", handler: show },
    { method: "GET", pattern: `${base}/quarantine`, family: "flywheel", handler: listQuarantined },
  ];
}

function describeRun({ isRequested, state, progress, endedAtMs }: ScrubRun): object {
  const { fraction, scanned, bytes, badTotal, restored, unanswered, orphans, bazel } = progress;
  return {
    state,
    done: state === "done",
    isRequested,
    startedAt: toIso(progress.startedAtMs),
    ...(endedAtMs !== undefined && { endedAt: toIso(endedAtMs) }),
    checkedBefore: toIso(progress.checkedBeforeMs),
    fraction: (fraction + bazel.fraction) / 2,
    scanned,
    bytes,
    badTotal,
    bad: progress.bad.map(({ paths, ...finding }) => ({
      ...finding,
      paths: paths.map(describePath),
    })),
    restored,
    unanswered,
    bazel: {
      scanned: bazel.scanned,
      bytes: bazel.bytes,
      badTotal: bazel.badTotal,
      bad: bazel.bad.map(({ instances, ...finding }) => ({
        ...finding,
        instances: instances.slice(0, MAX_INSTANCES_PER_BLOB),
      })),
      unanswered: bazel.unanswered,
    },
    ...(orphans && { orphans }),
  };
}

function describePath({ view, storePath }: AffectedPath): object {
  return { view, storePath };
}

function toIso(atMs: number): string {
  return new Date(atMs).toISOString();
}

function readNumber({ query }: Exchange, name: string): number | undefined {
  const text = query.get(name);
  if (text === null) return undefined;
  if (/^\d{1,12}$/.test(text)) return Number(text);
  throw new CacheError("INVALID", `The query's ${name} is no whole number`);
}

function readTime({ query }: Exchange, name: string): number | undefined {
  const text = query.get(name);
  if (text === null) return undefined;
  const atMs = Date.parse(text);
  if (Number.isFinite(atMs)) return atMs;
  throw new CacheError("INVALID", `The query's ${name} is no time`, {
    hint: "Send back what an earlier answer had there.",
  });
}
