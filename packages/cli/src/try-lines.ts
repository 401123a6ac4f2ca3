import { quoteShell } from "@glorious/core";

/** What {@link formatTryLines} needs to know. */
export interface TryLinesOptions {
  /** The command line to push with: this checkout's launcher, or `flywheel`. */
  readonly flywheel: string;
  readonly url: string;
  readonly view: string;
  readonly substituter: string;
  readonly publicKey: string;
  readonly tokenFile: string;
  readonly netrcFile: string;
  /** Nix is missing on this machine. */
  readonly needsNix: boolean;
  /** The user is not root and has to ask for its rights. */
  readonly needsSudo: boolean;
}

/**
 * The lines that show a newcomer's own Nix pushing to the cache and substituting from it.
 *
 * They stand in parentheses, so that a shell takes them as one command, stops at the first failure,
 * and forgets the settings afterwards. Works in any POSIX shell, with Nix from 2.8 on.
 */
export function formatTryLines(options: TryLinesOptions): string[] {
  const { substituter, publicKey, netrcFile } = options;
  const sudo = options.needsSudo ? "sudo " : "";
  const install = [
    `${sudo}apt-get update && ${sudo}apt-get install --yes --no-install-recommends nix-bin`,
  ];
  const push = [
    options.flywheel,
    "push",
    "--server",
    options.url,
    "--view",
    options.view,
    "--token-file",
    options.tokenFile,
  ];
  return [
    ...(options.needsNix ? install : []),
    "(",
    "set -e",
    // What a bare nix-bin run as root lacks: it has no build users, maybe no sandbox, and keeps the
    // new commands shut. The two ttl settings keep Nix from remembering an earlier try.
    "export NIX_CONFIG='build-users-group =",
    "sandbox = false",
    "experimental-features = nix-command",
    "narinfo-cache-negative-ttl = 0",
    "narinfo-cache-positive-ttl = 0'",
    // No substituter is asked: on a machine without a network that would only take time.
    `path=$(nix-build --no-out-link --option substitute false -E '${DERIVATION}')`,
    `${push.map(quoteShell).join(" ")} "$path"`,
    "empty=$(mktemp -d)",
    `nix-store --store "$empty" --option substituters ${quoteShell(substituter)} --option trusted-public-keys ${quoteShell(publicKey)} --option require-sigs true --option netrc-file ${quoteShell(netrcFile)} --realise "$path"`,
    'cat "$empty$path"',
    ")",
  ];
}

/** Two paths, the second referring to the first: a closure, however small. */
const DERIVATION =
  'let make = name: text: derivation { inherit name; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo ${text} > $out" ]; }; in make "hello-flywheel" "Hello from your own cache, with ${make "hello-dependency" "nothing to build"}"';
