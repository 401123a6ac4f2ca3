/** Something that was looked for: found, failed, or not looked for at all. */
export type Probe<T> =
  | { readonly state: "known"; readonly value: T }
  | { readonly state: "failed"; readonly problem: string }
  | { readonly state: "skipped"; readonly reason: string };

export function known<T>(value: T): Probe<T> {
  return { state: "known", value };
}

export function failed(problem: string): Probe<never> {
  return { state: "failed", problem };
}

export function notTried(reason: string): Probe<never> {
  return { state: "skipped", reason };
}

/** Runs something that may throw; its message becomes the problem. */
export async function attempt<T>(work: () => Promise<T>): Promise<Probe<T>> {
  try {
    return known(await work());
  } catch (error) {
    return failed(error instanceof Error ? error.message : String(error));
  }
}

/** The value, if there is one. */
export function valueOf<T>(probe: Probe<T>): T | undefined {
  return probe.state === "known" ? probe.value : undefined;
}

/** Why there is no value. */
export function reasonOf(probe: Exclude<Probe<unknown>, { readonly state: "known" }>): string {
  return probe.state === "failed" ? probe.problem : probe.reason;
}
