/** A line of nix.conf that sets something. */
export interface NixSetting {
  readonly name: string;
  /** Words joined by single spaces, as Nix reads it. */
  readonly value: string;
}

/** A line of nix.conf that reads another file. */
export interface NixInclude {
  readonly include: string;
  /** `!include`: a missing file is no error. */
  readonly isOptional: boolean;
}

/**
 * Reads the lines of a nix.conf as Nix does: `#` starts a comment anywhere, words are separated by
 * white space. Lines that Nix would refuse are left out; judging them is Nix's business.
 *
 * @see `AbstractConfig::applyConfig` in NixOS/nix.
 */
export function parseNixConf(text: string): Array<NixSetting | NixInclude> {
  const entries: Array<NixSetting | NixInclude> = [];
  for (const line of text.split("\n")) {
    const words = line
      .replace(/#.*$/s, "")
      .split(/[ \t\r]+/)
      .filter((word) => word !== "");
    const [first, second, ...rest] = words;
    if (first === undefined || second === undefined) continue;
    if (first === "include" || first === "!include") {
      if (rest.length === 0) entries.push({ include: second, isOptional: first === "!include" });
    } else if (second === "=") {
      entries.push({ name: first, value: rest.join(" ") });
    }
  }
  return entries;
}

/** A view as nix.conf names it. */
export interface NixCache {
  /** The address that Nix reads from. */
  readonly substituter: string;
  /** `name:base64` each, at least one; several while keys are being rotated. */
  readonly publicKeys: readonly string[];
}

/** What our block in nix.conf says. */
export interface NixConfBlock {
  /** In the order they were added. */
  readonly caches: readonly NixCache[];
  /** The netrc file that holds our tokens, when there are any. */
  readonly netrcFile: string | undefined;
  /** The block points Nix to {@link netrcFile}; otherwise Nix reads that file anyway. */
  readonly setsNetrcFile: boolean;
}

/** A block that says nothing. */
export const EMPTY_BLOCK: NixConfBlock = { caches: [], netrcFile: undefined, setsNetrcFile: false };

const NETRC_NOTE = "# Tokens are in ";

/** The lines of our block. */
export function formatNixConfBlock(block: NixConfBlock): string[] {
  const lines = block.caches.flatMap((cache) => [
    // Additions, so that the user's own settings, and the defaults they rely on, stay in force.
    `extra-substituters = ${cache.substituter}`,
    `extra-trusted-public-keys = ${cache.publicKeys.join(" ")}`,
  ]);
  if (block.netrcFile !== undefined) {
    lines.push(`${NETRC_NOTE}${block.netrcFile}`);
    if (block.setsNetrcFile) lines.push(`netrc-file = ${block.netrcFile}`);
  }
  return lines;
}

/** What {@link formatNixConfBlock} wrote. */
export function parseNixConfBlock(lines: readonly string[]): NixConfBlock {
  const settings = parseNixConf(lines.join("\n")).filter((entry) => "name" in entry);
  const substituters = settings.filter(({ name }) => name === "extra-substituters");
  const keys = settings.filter(({ name }) => name === "extra-trusted-public-keys");
  const note = lines.find((line) => line.startsWith(NETRC_NOTE));
  return {
    caches: substituters.flatMap(({ value: substituter }, index) => {
      const publicKeys = keys[index]?.value.split(" ");
      return publicKeys === undefined ? [] : [{ substituter, publicKeys }];
    }),
    netrcFile: note?.slice(NETRC_NOTE.length),
    setsNetrcFile: settings.some(({ name }) => name === "netrc-file"),
  };
}

/** The block with one cache more; one of the same address is replaced where it stands. */
export function addCache(block: NixConfBlock, cache: NixCache): NixConfBlock {
  const isKnown = block.caches.some(({ substituter }) => substituter === cache.substituter);
  return {
    ...block,
    caches: isKnown
      ? block.caches.map((old) => (old.substituter === cache.substituter ? cache : old))
      : [...block.caches, cache],
  };
}
