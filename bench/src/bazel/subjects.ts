import { spawn } from "node:child_process";
import { mkdir, readFile } from "node:fs/promises";
import { connect } from "node:net";
import path from "node:path";
import { fileURLToPath } from "node:url";

import {
  enterDebianRoot,
  findDebianRoot,
  type RunningFlywheel,
  startFlywheel,
} from "@glorious/testkit";

import { output, start } from "../command.ts";
import { freePort } from "../free-port.ts";
import type { Target } from "./load/replay.ts";

/** A server that speaks REAPI. */
export interface Subject {
  readonly name: string;
  readonly target: Target;
  /** As whom to ask: by number, even and odd. */
  readonly tenants: readonly [Tenant, Tenant];
}

export interface Tenant {
  readonly instance: string;
  readonly token: string | undefined;
}

const LAUNCHER = fileURLToPath(new URL("../../../bin/flywheel", import.meta.url));
const VIEWS = ["acme+main", "globex+main"] as const;

export interface OurServer {
  readonly subject: Subject;
  readonly process: RunningFlywheel;
}

/** Starts our server, and makes two tenants with a view and a token each when it has none yet. */
export async function startOurs(
  directory: string,
  env: Readonly<Record<string, string>> = {},
): Promise<OurServer> {
  await mkdir(directory, { recursive: true });
  const process = await startFlywheel({
    dataDirectory: path.join(directory, "data"),
    env: { FLYWHEEL_LOG_REQUESTS: "false", ...env },
  });
  const tenants = await Promise.all(
    VIEWS.map(async (view) => {
      const file = path.join(directory, `${view}.token`);
      const known = await readFile(file, "utf8").catch(() => undefined);
      if (known === undefined) await makeTenant(process, view, file);
      return { instance: view, token: (known ?? (await readFile(file, "utf8"))).trim() };
    }),
  );
  const [first, second] = tenants;
  if (first === undefined || second === undefined) throw new Error("two tenants are needed");
  const { hostname, port } = new URL(process.url);
  return {
    process,
    subject: {
      name: "ours",
      target: { host: hostname, port: Number(port) },
      tenants: [first, second],
    },
  };
}

async function makeTenant(server: RunningFlywheel, view: string, file: string): Promise<void> {
  const access = ["--server", server.url, "--token-file", server.tokenFile];
  await output(LAUNCHER, ["view", "create", ...access, view]);
  const grants = ["--pull", view, "--push", view];
  const names = ["--sub", `bench of ${view}`, "--out", file];
  await output(LAUNCHER, ["token", "create", ...access, ...names, ...grants]);
}

export interface Casd extends AsyncDisposable {
  readonly subject: Subject;
  readonly version: string;
}

/** Starts Debian's buildbox-casd; a text says why there is none. It knows no tenants. */
export async function startCasd(directory: string): Promise<Casd | string> {
  const root = findDebianRoot("sid");
  if (typeof root === "string") return root;
  await mkdir(directory, { recursive: true });
  const port = await freePort();
  const { command, args } = enterDebianRoot(root, "buildbox-casd", [
    "--bind=127.0.0.1:" + port,
    "--log-level=error",
    directory,
  ]);
  const running = start(command, args);
  await waitForPort(port);
  const nobody = { instance: "", token: undefined };
  return {
    subject: {
      name: "casd",
      target: { host: "127.0.0.1", port },
      tenants: [nobody, nobody],
    },
    version: root.versions["buildbox-casd"] ?? root.versions["buildbox"] ?? "of Debian sid",
    async [Symbol.asyncDispose]() {
      // What enters the root heeds no other signal; it takes casd along.
      process.kill(running.pid, "SIGKILL");
      await running[Symbol.asyncDispose]();
    },
  };
}

/** What answers every call at once, with a message of this many bytes. */
export async function startConstant(messageBytes: number): Promise<Target & AsyncDisposable> {
  const program = fileURLToPath(new URL("constant-server.ts", import.meta.url));
  const child = spawn(process.execPath, ["--conditions=source", program, `${messageBytes}`], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const line = await new Promise<string>((resolve, reject) => {
    child.stdout.setEncoding("utf8").once("data", resolve);
    child.once("close", () => reject(new Error("the constant server ended")));
  });
  return {
    host: "127.0.0.1",
    port: Number(line.trim()),
    async [Symbol.asyncDispose]() {
      const ended = new Promise((resolve) => child.once("close", resolve));
      child.kill();
      await ended;
    },
  };
}

async function waitForPort(port: number): Promise<void> {
  for (let attempt = 0; ; attempt += 1) {
    const isUp = await new Promise<boolean>((resolve) => {
      const socket = connect(port, "127.0.0.1", () => resolve(true));
      socket.once("error", () => resolve(false));
      socket.once("connect", () => socket.destroy());
    });
    if (isUp) return;
    if (attempt === 200) throw new Error(`nothing listens on port ${port}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
