import { spawn } from "node:child_process";
import { accessSync, constants, statSync } from "node:fs";
import { constants as osConstants } from "node:os";
import path from "node:path";
import process from "node:process";

/**
 * Runs a command to its end with its output captured; never throws for what the command does.
 *
 * @returns {Promise<{ status: number, stdout: string, stderr: string }>} 127 when it could not be started.
 */
export function capture(command, args, options = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
    const output = { stdout: "", stderr: "" };
    child.stdout.setEncoding("utf8").on("data", (text) => (output.stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text) => (output.stderr += text));
    child.on("error", (error) => resolve({ ...output, status: 127, stderr: error.message }));
    child.on("close", (code, signal) => resolve({ ...output, status: exitStatus(code, signal) }));
  });
}

/**
 * Runs a command on this process's own terminal, hands it the signals sent here, and returns its exit
 * status, 128 + n after signal n.
 *
 * @returns {Promise<number>}
 */
export function runInForeground(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: "inherit", ...options });
    const handlers = new Map(
      ["SIGINT", "SIGTERM", "SIGHUP"].map((signal) => [
        signal,
        () => {
          // Ctrl-C on a terminal reaches the child by itself; a second one would mean "at once".
          if (signal !== "SIGINT" || !process.stdin.isTTY) child.kill(signal);
        },
      ]),
    );
    for (const [signal, handler] of handlers) process.on(signal, handler);
    const finish = () => {
      for (const [signal, handler] of handlers) process.off(signal, handler);
    };
    child.on("error", (error) => {
      finish();
      reject(error);
    });
    child.on("close", (code, signal) => {
      finish();
      resolve(exitStatus(code, signal));
    });
  });
}

/** The full path of a command on PATH, or undefined. */
export function findOnPath(command, searchPath = process.env.PATH ?? "") {
  return searchPath
    .split(path.delimiter)
    .filter((directory) => path.isAbsolute(directory))
    .map((directory) => path.join(directory, command))
    .find(isExecutableFile);
}

/** Whether the path names a file that this user may execute. */
export function isExecutableFile(file) {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}

/** The last lines of what a failed command said, for a message. */
export function lastLines({ stdout, stderr }, count = 8) {
  const lines = `${stdout}\n${stderr}`.split("\n").filter((line) => line.trim() !== "");
  return lines
    .slice(-count)
    .map((line) => `  ${line}`)
    .join("\n");
}

function exitStatus(code, signal) {
  return code ?? 128 + (osConstants.signals[signal] ?? 0);
}
