#!/usr/bin/env node
import { enableCompileCache } from "node:module";
import { setFlagsFromString } from "node:v8";

// First of all, so that everything below is compiled only once on this machine.
enableCompileCache();
// Makes buffers outside of V8's heap count like what is in it. Otherwise every few of those that uploads leave
// behind start a collection, which was a third of the processor time of client and server.
setFlagsFromString("--external-memory-accounted-in-global-limit");

const { runProcess } = await import("./run-process.ts");
await runProcess();
