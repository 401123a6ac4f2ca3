import { t as onSupportedNode } from "./on-supported-node.mjs";
// actions/setup-bazel-cache/src/main.ts
await onSupportedNode(async () => {
	const { main } = await import("./entries.mjs");
	await main();
});
export {};
