import { onSupportedNode } from "@glorious/setup-action";

await onSupportedNode("post", async () => {
  const { post } = await import("./entries.ts");
  await post();
});
