import { onSupportedNode } from "@glorious/setup-action";

await onSupportedNode(async () => {
  const { main } = await import("./entries.ts");
  await main();
});
