import * as core from "@actions/core";
import { describeError } from "@glorious/core";

/**
 * Runs an entry to its end and ends the process. Whatever goes wrong in it, awaited or not, is one warning, and the
 * job goes on; only a strict one fails.
 */
export async function finishEntry(
  isStrict: () => boolean,
  entry: () => Promise<void>,
): Promise<void> {
  let isOver = false;
  const giveUp = async (error: unknown): Promise<void> => {
    if (isOver) return;
    isOver = true;
    const message = `Building without the cache: ${describeError(error)}`;
    if (isStrict()) core.setFailed(message);
    else core.warning(message);
    core.setOutput("status", "degraded");
    await end();
  };
  process.on("uncaughtException", (error) => void giveUp(error));
  process.on("unhandledRejection", (error) => void giveUp(error));
  try {
    await entry();
  } catch (error) {
    await giveUp(error);
  }
  isOver = true;
  await end();
}

/** Sockets that nobody waits for would keep the process alive; what was printed is to arrive first. */
async function end(): Promise<never> {
  for (const stream of [process.stdout, process.stderr]) {
    const { promise, resolve } = Promise.withResolvers<void>();
    stream.write("", () => resolve());
    await promise;
  }
  process.exit();
}
