import { lookup as systemLookup, type LookupAddress, type LookupOptions } from "node:dns";
import { BlockList, isIP, type LookupFunction } from "node:net";

import { UpstreamFault } from "./upstream-fault.ts";

/** Where an address leads: to everybody's network, or to one that only machines in it can reach. */
export type AddressKind = "public" | "private" | "loopback" | "link-local" | "reserved";

type Range = readonly [net: string, prefix: number, family: "ipv4" | "ipv6"];
const RANGES: Readonly<Record<Exclude<AddressKind, "public">, readonly Range[]>> = {
  loopback: [
    ["127.0.0.0", 8, "ipv4"],
    ["::1", 128, "ipv6"],
  ],
  private: [
    ["10.0.0.0", 8, "ipv4"],
    ["172.16.0.0", 12, "ipv4"],
    ["192.168.0.0", 16, "ipv4"],
    ["100.64.0.0", 10, "ipv4"],
    ["fc00::", 7, "ipv6"],
  ],
  // Among them the addresses under which clouds give machines their credentials.
  "link-local": [
    ["169.254.0.0", 16, "ipv4"],
    ["fe80::", 10, "ipv6"],
  ],
  reserved: [
    ["0.0.0.0", 8, "ipv4"],
    ["192.0.0.0", 24, "ipv4"],
    ["192.0.2.0", 24, "ipv4"],
    ["192.88.99.0", 24, "ipv4"],
    ["198.18.0.0", 15, "ipv4"],
    ["198.51.100.0", 24, "ipv4"],
    ["203.0.113.0", 24, "ipv4"],
    ["224.0.0.0", 3, "ipv4"],
    // IPv4 addresses in them: who translates them may be in the operator's network.
    ["::", 96, "ipv6"],
    ["64:ff9b::", 95, "ipv6"],
    ["64:ff9b:1::", 48, "ipv6"],
    ["100::", 64, "ipv6"],
    ["2001::", 32, "ipv6"],
    ["2001:db8::", 32, "ipv6"],
    ["2002::", 16, "ipv6"],
    ["fec0::", 10, "ipv6"],
    ["ff00::", 8, "ipv6"],
  ],
};

const LISTS = (Object.keys(RANGES) as (keyof typeof RANGES)[]).map((kind) => {
  const list = new BlockList();
  for (const range of RANGES[kind]) list.addSubnet(...range);
  return { kind, list };
});

/** @param address an IP address as text; an IPv4 address written as IPv6 is the IPv4 address. */
export function kindOfAddress(address: string): AddressKind {
  const family = isIP(address) === 4 ? "ipv4" : "ipv6";
  return LISTS.find(({ list }) => list.check(address, family))?.kind ?? "public";
}

/** Looks a host name up as `node:dns` does with `all`. */
export type LookUpAll = (hostname: string, options: LookupOptions) => Promise<LookupAddress[]>;

/**
 * Keeps the server from being sent into networks that the operator did not name.
 *
 * An upstream's own host may be anywhere, but stays in the kind of network it was in first. Where its redirects and
 * narinfos lead is public, or a network of the same kind where its host never had a public address: who answers there
 * could have named any other for a moment. What is checked is the very address that is connected to.
 */
export interface AddressGuard {
  /** Refuses hosts that are written as an address. @throws {UpstreamFault} `private-address`. */
  requireAllowed(url: URL): Promise<void>;
  /** For sockets; fails with {@link UpstreamFault} `private-address` for the others. */
  readonly lookup: LookupFunction;
}

export function createAddressGuard(
  ownHost: string,
  lookUp: LookUpAll = lookUpBySystem,
): AddressGuard {
  const own = bare(ownHost);
  let ownKinds: Promise<ReadonlySet<AddressKind>> | undefined;
  let wasPublic = false;

  const noteOwn = (addresses: readonly string[]): ReadonlySet<AddressKind> => {
    const kinds = new Set(addresses.map(kindOfAddress));
    wasPublic ||= kinds.has("public");
    return kinds;
  };
  const kindsOfOwn = async (): Promise<ReadonlySet<AddressKind>> => {
    if (isIP(own) !== 0) return noteOwn([own]);
    const addresses = await lookUp(own, { all: true });
    return noteOwn(addresses.map(({ address }) => address));
  };
  const knownKinds = async (): Promise<ReadonlySet<AddressKind>> => {
    ownKinds ??= kindsOfOwn();
    try {
      return await ownKinds;
    } catch (error) {
      // Not known is not "public".
      ownKinds = undefined;
      throw error;
    }
  };

  const requireKinds = async (host: string, addresses: readonly string[]): Promise<void> => {
    const kinds = await knownKinds();
    const isOwn = host === own;
    if (isOwn) noteOwn(addresses);
    for (const address of addresses) {
      const kind = kindOfAddress(address);
      const isAllowed = kinds.has(kind) && (isOwn || !wasPublic);
      if (kind !== "public" && !isAllowed) {
        throw new UpstreamFault(
          "private-address",
          `${host} is ${address}, a ${kind} address, where ${own} has no business to send us`,
        );
      }
    }
  };

  const resolve = async (host: string, options: LookupOptions): Promise<LookupAddress[]> => {
    const addresses = await lookUp(host, { ...options, all: true });
    await requireKinds(
      host,
      addresses.map(({ address }) => address),
    );
    return addresses;
  };

  return {
    async requireAllowed({ hostname }) {
      const host = bare(hostname);
      if (isIP(host) !== 0) await requireKinds(host, [host]);
    },
    lookup(host, options, callback) {
      resolve(host, options).then(
        (addresses) => {
          const [first] = addresses;
          if (options.all === true) callback(null, addresses);
          else callback(null, first?.address ?? "", first?.family);
        },
        (error: unknown) => callback(asError(error), ""),
      );
    },
  };
}

function lookUpBySystem(hostname: string, options: LookupOptions): Promise<LookupAddress[]> {
  return new Promise((resolve, reject) => {
    systemLookup(hostname, { ...options, all: true }, (error, addresses) => {
      if (error === null) resolve(addresses);
      else reject(error);
    });
  });
}

/** Without the brackets of an IPv6 address in an address of the web. */
function bare(hostname: string): string {
  return hostname.replace(/^\[|\]$/g, "");
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
