import { quoteShell } from "@glorious/core";

/** What {@link formatCredentialScript} calls. */
export interface CredentialScriptRequest {
  /** How this very command line is run: program and arguments, full paths. */
  readonly flywheel: readonly string[];
  /** The server the token is for, with a trailing slash. */
  readonly server: string;
  /** `undefined`: the token of `login`. */
  readonly tokenFile: string | undefined;
  /** Where `login` saved it. */
  readonly configHome: string;
}

/**
 * The program that Bazel asks for the token. Bazel ends a build whose helper fails, so this one answers without a token
 * when `flywheel` is not there any more.
 */
export function formatCredentialScript(request: CredentialScriptRequest): string {
  const { flywheel, server, tokenFile } = request;
  const words = [
    ...flywheel,
    "credential-helper",
    "--server",
    server,
    ...(tokenFile === undefined ? [] : ["--token-file", tokenFile]),
  ];
  return `#!/bin/sh
# \`flywheel use bazel\` wrote this file, \`flywheel use bazel --undo\` removes it.
export XDG_CONFIG_HOME=${quoteShell(request.configHome)}
unset FLYWHEEL_TOKEN FLYWHEEL_SERVER
if answer=$(${words.map(quoteShell).join(" ")} "$@"); then
  printf '%s\\n' "$answer"
else
  printf '{"headers":{}}\\n'
fi
`;
}
