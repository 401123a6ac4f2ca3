import { quoteShell } from "@glorious/core";

/**
 * The program that Nix runs after each build, and waits for. It only notes the paths: the shell's own commands and one
 * write. Whatever goes wrong, it says that all is well, because Nix ends the builds when a hook fails.
 */
export function formatHookScript(queueFile: string): string {
  return `#!/bin/sh
[ -n "\${OUT_PATHS-}" ] && printf '%s\\n' "$OUT_PATHS" 2>/dev/null >>${quoteShell(queueFile)}
exit 0
`;
}
