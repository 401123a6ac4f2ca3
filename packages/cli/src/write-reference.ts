import { writeFile } from "node:fs/promises";

import { loadCommands } from "./command-table.ts";
import { formatReference } from "./format-reference.ts";

const PAGE = new URL("../../../docs/reference/cli.md", import.meta.url);

await writeFile(PAGE, formatReference(await loadCommands()));
