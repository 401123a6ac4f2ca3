import { describeError, type Logger, silentLogger } from "@glorious/core";
import { decodeTokenUnverified } from "@glorious/trust";

/** What every request to the upstream is made with. */
export interface Credentials {
  /** The current token, `undefined` for somebody anonymous. Secret. */
  token(): string | undefined;
  /**
   * The upstream answered 401 or 403 to a request with this token. One renewal serves all who ask meanwhile, and there
   * is none shortly after another.
   *
   * @returns Whether there is another token now, so that the request is worth repeating. Never rejects.
   */
  refused(token: string | undefined): Promise<boolean>;
}

/** A token that always stays the same, or none. */
export function createFixedCredentials(token: string | undefined): Credentials {
  return { token: () => token, refused: () => Promise.resolve(false) };
}

/** Credentials that others take the place of, once they are known. */
export interface ReplaceableCredentials extends Credentials, Disposable {
  replace(credentials: Credentials & Disposable): void;
}

/** Begins with these; whoever holds the result uses those of the latest replacement. It disposes what it was given. */
export function createReplaceableCredentials(
  first: Credentials & Disposable,
): ReplaceableCredentials {
  let current = first;
  return {
    token: () => current.token(),
    refused: (token) => current.refused(token),
    replace(credentials) {
      current[Symbol.dispose]();
      current = credentials;
    },
    [Symbol.dispose]: () => current[Symbol.dispose](),
  };
}

/** Options of {@link createRenewedCredentials}. */
export interface RenewedCredentialsOptions {
  /** The token to begin with. */
  readonly token: string | undefined;
  /** Gets another one, within a bounded time. May reject: the present one is used on. */
  readonly renew: () => Promise<string>;
  /** Told of each new token before anybody uses it. */
  readonly onRenewed?: ((token: string) => Promise<void>) | undefined;
  readonly logger?: Logger | undefined;
  /** Milliseconds that only ever grow; default the machine's own clock. */
  readonly nowMs?: (() => number) | undefined;
}

/** Credentials that renew themselves until they are disposed. */
export interface RenewedCredentials extends Credentials, Disposable {
  /** When the next renewal is due, on the clock of the options; `undefined` for a token that does not expire. */
  readonly dueAtMs: number | undefined;
}

/** A token is renewed when this is left of its life, or a fifth of it when that is less. */
const MARGIN_MS = 5 * 60_000;
/** After a failed renewal the next one comes not before this … */
const RETRY_MS = 15_000;
/** … and a refusal soon after a renewal is about the token's rights, not about its age. */
const REFUSAL_PAUSE_MS = 10_000;
/** Longer timers overflow and fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Keeps a token fresh. How long it lasts is taken from its own claims, as a duration from its arrival on, so a wrong
 * clock of this machine does no harm.
 */
export function createRenewedCredentials(options: RenewedCredentialsOptions): RenewedCredentials {
  const { renew, onRenewed, logger = silentLogger, nowMs = () => performance.now() } = options;
  let token = options.token;
  let dueAtMs: number | undefined;
  let timer: NodeJS.Timeout | undefined;
  let running: Promise<boolean> | undefined;
  let lastTryMs = -Infinity;
  let isDisposed = false;

  const schedule = (delayMs: number | undefined): void => {
    clearTimeout(timer);
    dueAtMs = delayMs === undefined ? undefined : nowMs() + delayMs;
    if (delayMs === undefined || isDisposed) return;
    timer = setTimeout(() => void renewOnce(), Math.min(delayMs, MAX_TIMER_MS));
    timer.unref();
  };

  const renewOnce = (): Promise<boolean> => {
    running ??= tryRenewal().finally(() => {
      lastTryMs = nowMs();
      running = undefined;
    });
    return running;
  };

  const tryRenewal = async (): Promise<boolean> => {
    try {
      const renewed = await renew();
      await onRenewed?.(renewed);
      token = renewed;
      schedule(renewalDelayMs(renewed));
      logger.info("token renewed");
      return true;
    } catch (error) {
      logger.warn("token not renewed", { error: describeError(error) });
      schedule(RETRY_MS);
      return false;
    }
  };

  schedule(token === undefined ? undefined : renewalDelayMs(token));
  return {
    token: () => token,
    get dueAtMs() {
      return dueAtMs;
    },
    async refused(used) {
      if (used !== token) return true;
      if (running === undefined && nowMs() - lastTryMs < REFUSAL_PAUSE_MS) return false;
      return renewOnce();
    },
    [Symbol.dispose]() {
      isDisposed = true;
      clearTimeout(timer);
    },
  };
}

/** How long after its arrival a token is to be renewed; `undefined` when it says nothing about its end. */
function renewalDelayMs(token: string): number | undefined {
  const { exp, nbf, iat } = decodeTokenUnverified(token)?.payload ?? {};
  const from = typeof iat === "number" ? iat : nbf;
  if (typeof exp !== "number" || typeof from !== "number") return undefined;
  const lifeMs = Math.max(0, (exp - from) * 1000);
  return Math.max(1000, lifeMs - Math.min(MARGIN_MS, lifeMs / 5));
}
