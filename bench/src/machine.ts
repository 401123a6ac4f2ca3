import { readFileSync } from "node:fs";
import { availableParallelism, homedir, totalmem } from "node:os";
import path from "node:path";

/** The folder in the user's cache that holds what runs share. */
export function cacheDirectory(): string {
  const base = process.env["XDG_CACHE_HOME"];
  const parent =
    base !== undefined && path.isAbsolute(base) ? base : path.join(homedir(), ".cache");
  return path.join(parent, "gloriousflywheel");
}

/** The machine in general terms: what a reader needs to judge the figures, and no more. */
export function describeMachine(): string {
  const cpu = readCpuInfo();
  const flags = new Set((/^flags\s*:\s*(.*)$/m.exec(cpu)?.[1] ?? "").split(" "));
  const extensions = [
    ...(flags.has("sha_ni") ? ["SHA extensions"] : []),
    ...(flags.has("avx512f") ? ["AVX-512"] : flags.has("avx2") ? ["AVX2"] : []),
  ];
  const kind = flags.has("hypervisor") ? "a virtual machine" : "a machine";
  const memoryGib = Math.round(totalmem() / 2 ** 30);
  const cores = `${availableParallelism()} ${process.arch} cores`;
  const withExtensions = extensions.length === 0 ? "" : ` (${extensions.join(", ")})`;
  return `${kind} with ${cores}${withExtensions}, ${memoryGib} GiB of memory and a local disk, Linux, Node ${process.versions.node}`;
}

function readCpuInfo(): string {
  try {
    return readFileSync("/proc/cpuinfo", "utf8");
  } catch {
    return "";
  }
}
