export { onSupportedNode } from "./on-supported-node.ts";
export { runMain } from "./run-main.ts";
export { runPost } from "./run-post.ts";
