import { t as onSupportedNode } from "./on-supported-node.mjs";
// actions/setup-attic/src/post.ts
await onSupportedNode("post", async () => {
	const { post } = await import("./entries.mjs");
	await post();
});
export {};
