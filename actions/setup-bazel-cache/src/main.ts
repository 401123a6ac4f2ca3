import { onSupportedNode } from "@glorious/setup-action";

await onSupportedNode("main", async () => {
  const { main } = await import("./entries.ts");
  await main();
});
