import { fileURLToPath } from "node:url";

import { runMain, runPost } from "@glorious/setup-action";

const BUNDLE = fileURLToPath(new URL("flywheel.mjs", import.meta.url));

export const main = (): Promise<void> => runMain(["nix"], BUNDLE);
export const post = (): Promise<void> => runPost(BUNDLE);
