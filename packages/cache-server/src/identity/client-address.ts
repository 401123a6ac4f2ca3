import type { IncomingMessage } from "node:http";
import { isIP } from "node:net";

/** Of a request, what tells who sent it. */
interface AddressedRequest {
  readonly headers: IncomingMessage["headers"];
  readonly socket: { readonly remoteAddress?: string | undefined };
}

/**
 * Whom a request counts for: its address, of IPv6 the network of 64 bits that one customer has.
 *
 * @param header The header in which a trusted proxy names the client; without it, or without an address in it, the
 *   connection's own address counts.
 */
export function clientAddress(request: AddressedRequest, header: string | undefined): string {
  const named = header === undefined ? undefined : request.headers[header.toLowerCase()];
  // A proxy that appends puts what it saw itself last; what stands before is the client's own word.
  const last = typeof named === "string" ? named.split(",").at(-1)?.trim() : undefined;
  const address =
    last !== undefined && isIP(last) !== 0 ? last : (request.socket.remoteAddress ?? "unknown");
  return toNetwork(address);
}

function toNetwork(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  if (isIP(address) !== 6) return address;
  const [head = "", tail] = (address.split("%", 1)[0] ?? "").split("::");
  const start = head === "" ? [] : head.split(":");
  const end = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros =
    tail === undefined ? [] : Array<string>(Math.max(0, 8 - start.length - end.length)).fill("0");
  const groups = [...start, ...zeros, ...end].slice(0, 4);
  return `${groups.map((group) => Number.parseInt(group, 16).toString(16)).join(":")}::/64`;
}
