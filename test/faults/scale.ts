/** Hundreds instead of a sample: `pnpm test:long`. */
export const IS_LONG: boolean = process.env["GLORIOUS_LONG"] === "1";

/** Repeats another run: `GLORIOUS_SEED=7 pnpm test:e2e test/faults`. */
export const SEED: number = Number(process.env["GLORIOUS_SEED"] ?? 1);
