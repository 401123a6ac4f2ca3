import { createFileConnection, type FileAnswer, type FileConnection } from "./file-connection.ts";

/** Reads files over connections that are kept for the next. */
export interface FileConnections extends Disposable {
  /**
   * Asks for a file; the head decides. The caller reads the body, or destroys it.
   *
   * @throws the signal's reason; whatever the connection breaks with.
   */
  get(
    url: URL,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<FileAnswer>;
}

const MAX_CONNECTIONS = 64;
/** Servers close connections that nobody uses; sooner than most of them this side does. */
const IDLE_MS = 4000;

interface Pooled {
  readonly connection: FileConnection;
  readonly origin: string;
  timer?: NodeJS.Timeout;
}

/** Opens nothing by itself. */
export function createFileConnections(connectTimeoutMs: number): FileConnections {
  const open = new Set<Pooled>();
  const idle: Pooled[] = [];
  const waiting: (() => void)[] = [];

  const takeIdle = (origin: string): Pooled | undefined => {
    const at = idle.findLastIndex((pooled) => pooled.origin === origin);
    const [pooled] = at === -1 ? [] : idle.splice(at, 1);
    clearTimeout(pooled?.timer);
    return pooled;
  };

  const create = (url: URL): Pooled => {
    // For another origin than the ones that wait.
    if (open.size >= MAX_CONNECTIONS) idle.shift()?.connection.destroy();
    const pooled: Pooled = {
      origin: url.origin,
      connection: createFileConnection(url, {
        connectTimeoutMs,
        onIdle() {
          pooled.timer = setTimeout(() => pooled.connection.destroy(), IDLE_MS);
          pooled.timer.unref();
          idle.push(pooled);
          waiting.shift()?.();
        },
        onClose() {
          clearTimeout(pooled.timer);
          open.delete(pooled);
          const at = idle.indexOf(pooled);
          if (at !== -1) idle.splice(at, 1);
          waiting.shift()?.();
        },
      }),
    };
    open.add(pooled);
    return pooled;
  };

  /** Until there is a connection to have, or nobody wants it any more. */
  const wait = (signal: AbortSignal): Promise<void> =>
    new Promise((resolve, reject) => {
      const onAbort = (): void => {
        waiting.splice(waiting.indexOf(onFree), 1);
        reject(signal.reason as Error);
      };
      const onFree = (): void => {
        signal.removeEventListener("abort", onAbort);
        resolve();
      };
      waiting.push(onFree);
      signal.addEventListener("abort", onAbort, { once: true });
    });

  return {
    async get(url, headers, signal) {
      for (;;) {
        signal.throwIfAborted();
        const kept = takeIdle(url.origin);
        if (kept === undefined && open.size - idle.length >= MAX_CONNECTIONS) {
          await wait(signal);
          continue;
        }
        const { connection } = kept ?? create(url);
        try {
          return await connection.get(url, headers, signal);
        } catch (error) {
          // The server had closed it while nobody used it.
          if (signal.aborted || !connection.wasStale) throw error;
        }
      }
    },
    [Symbol.dispose]() {
      for (const { connection } of open) connection.destroy();
    },
  };
}
