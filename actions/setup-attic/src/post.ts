import { onSupportedNode } from "@glorious/setup-action";

await onSupportedNode(async () => {
  const { post } = await import("./entries.ts");
  await post();
});
