import { enableCompileCache } from "node:module";

import { installAsyncDisposableStack } from "./async-disposable-stack.ts";

enableCompileCache();
// The modules below use it while they are loaded.
installAsyncDisposableStack();
const { runProcess } = await import("../run-process.ts");
await runProcess();
