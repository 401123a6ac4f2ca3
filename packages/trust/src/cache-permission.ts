/** What a token may do with a cache. The order is that of Attic's claim. */
export const CACHE_PERMISSIONS = [
  "pull",
  "push",
  "delete",
  "create",
  "configure",
  "configureRetention",
  "destroy",
] as const;

/** One of {@link CACHE_PERMISSIONS}. */
export type CachePermission = (typeof CACHE_PERMISSIONS)[number];

/**
 * How each permission is written in a token.
 *
 * @see `token/src/lib.rs` of Attic, whose clients and servers read the same letters.
 */
export const PERMISSION_CODES: {
  readonly pull: "r";
  readonly push: "w";
  readonly delete: "d";
  readonly create: "cc";
  readonly configure: "cr";
  readonly configureRetention: "cq";
  readonly destroy: "cd";
} = {
  pull: "r",
  push: "w",
  delete: "d",
  create: "cc",
  configure: "cr",
  configureRetention: "cq",
  destroy: "cd",
};

/** The wire form of a set of permissions, such as `{ r: 1, w: 1 }`; what is not granted is left out. */
export function formatPermissions(permissions: ReadonlySet<CachePermission>): Record<string, 1> {
  return Object.fromEntries(
    CACHE_PERMISSIONS.filter((permission) => permissions.has(permission)).map((permission) => [
      PERMISSION_CODES[permission],
      1 as const,
    ]),
  );
}
