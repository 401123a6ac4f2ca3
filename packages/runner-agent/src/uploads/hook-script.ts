import { quoteShell } from "@glorious/core";

/**
 * The program that Nix runs after each build, and waits for. It only notes the paths: the shell's own commands and one
 * write. Whatever goes wrong, it says that all is well, because Nix ends the builds when a hook fails.
 *
 * Nix 2.8 names no outputs: there the derivation stands for them.
 */
export function formatHookScript(queueFile: string): string {
  return `#!/bin/sh
paths=\${OUT_PATHS:-\${DRV_PATH-}}
[ -n "$paths" ] && printf '%s\\n' "$paths" 2>/dev/null >>${quoteShell(queueFile)}
exit 0
`;
}
