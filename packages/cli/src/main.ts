#!/usr/bin/env node
import { enableCompileCache } from "node:module";

// First of all, so that everything below is compiled only once on this machine.
enableCompileCache();

const { runProcess } = await import("./run-process.ts");
await runProcess();
