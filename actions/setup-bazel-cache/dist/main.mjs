import { t as onSupportedNode } from "./on-supported-node.mjs";
// actions/setup-bazel-cache/src/main.ts
await onSupportedNode("main", async () => {
	const { main } = await import("./entries.mjs");
	await main();
});
export {};
