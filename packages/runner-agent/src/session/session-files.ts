import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** The files of a session's folder, which is its user's alone. */
export interface SessionFiles {
  readonly folder: string;
  /** What the agent is to do, from the one who starts it. */
  readonly settings: string;
  /** What the agent is, from itself. */
  readonly session: string;
  /** What the agent is to finish once the server answers; gone when it has. */
  readonly pending: string;
  /** What the job was told about it. */
  readonly report: string;
  /** The current token. Secret. */
  readonly token: string;
  /** Holds the face's address, which is secret. */
  readonly nixConf: string;
  readonly bazelrc: string;
  readonly credentialHelper: string;
  /** What the credential helper answers. Secret. */
  readonly credential: string;
  readonly hook: string;
  readonly queue: string;
  readonly journal: string;
  /** The names in the store directory when the job began. */
  readonly snapshot: string;
  readonly spool: string;
  readonly log: string;
  readonly summary: string;
  readonly socket: string;
}

/** The files of a session, whether they exist or not. */
export function sessionFiles(folder: string): SessionFiles {
  const at = (name: string): string => join(folder, name);
  return {
    folder,
    settings: at("settings.json"),
    session: at("session.json"),
    pending: at("pending.json"),
    report: at("report.json"),
    token: at("token"),
    nixConf: at("nix.conf"),
    bazelrc: at("bazelrc"),
    credentialHelper: at("credential-helper"),
    credential: at("credential.json"),
    hook: at("post-build-hook"),
    queue: at("queue"),
    journal: at("journal"),
    snapshot: at("snapshot"),
    spool: at("spool"),
    log: at("agent.log"),
    summary: at("summary.json"),
    socket: at("control.sock"),
  };
}

/** Makes a new session's folder in `parent`. */
export async function createSessionFolder(parent: string): Promise<SessionFiles> {
  const name = `flywheel-${randomBytes(4).toString("hex")}`;
  const folder = join(parent, name);
  // Not recursive: Node never returns from that below /proc, and a runner makes the folder itself.
  await mkdir(parent).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") throw error;
  });
  await mkdir(folder, { mode: 0o700 });
  const files = sessionFiles(folder);
  await mkdir(files.spool, { mode: 0o700 });
  await writeFile(files.queue, "", { mode: 0o600 });
  return files;
}

/** Beyond it, kernels refuse a socket's path. */
const MAX_SOCKET_PATH_BYTES = 100;

/** Where the control socket goes: into the folder, or where its path is short enough. */
export async function chooseSocketPath({ socket }: SessionFiles): Promise<string> {
  if (Buffer.byteLength(socket) <= MAX_SOCKET_PATH_BYTES) return socket;
  return join(await mkdtemp(join(tmpdir(), "flywheel-")), "control.sock");
}
