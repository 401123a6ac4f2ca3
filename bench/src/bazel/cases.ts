import { zstdCompressSync } from "node:zlib";

import { uploadId } from "./fill.ts";
import { encodeCallHeaders, encodeGrpcBody } from "./load/frames.ts";
import { type Expected, type Ring, RingBuilder } from "./load/ring.ts";
import {
  actionResult,
  batchUpdate,
  blobOf,
  digest,
  findMissing,
  getActionResult,
  METHODS,
  missingBytes,
  readRequest,
  updateActionResult,
  writeRequests,
} from "./messages.ts";
import { chooser, type Distribution, Hashes, isMissing, type Scale, sizeOf } from "./population.ts";
import type { Subject } from "./subjects.ts";

/** What there is to ask for, and the hashes of it. */
export interface Population {
  readonly scale: Scale;
  readonly small: Hashes;
  readonly absent: Hashes;
  readonly blobs4KiB: Hashes;
  readonly actions: Hashes;
}

/** Hashes of everything that is asked for. */
export function populate(scale: Scale): Population {
  return {
    scale,
    small: new Hashes("small", scale.smallBlobs),
    absent: new Hashes("new", ABSENT),
    blobs4KiB: new Hashes("4 KiB", scale.blobs4KiB),
    actions: new Hashes("action", scale.actions),
  };
}

/** Calls of one kind, laid out for some connections. */
export interface GrpcCase {
  readonly name: string;
  readonly connections: number;
  readonly depth: number;
  /** Whether every ring is played once, as what it stores is new only then. */
  readonly isOnce: boolean;
  /** What is moved in one call, when bytes count. */
  readonly bytesPerCall?: number;
  /** Rounds of one number ask every subject for the same keys in the same order, others for other keys first. */
  lay(subject: Subject, round?: number): Ring[];
}

/** How many digests there are of blobs that nobody stored. */
const ABSENT = 200_000;
const ANY_MESSAGE: Expected = { minBytes: 5, maxBytes: Infinity };
const NO_MESSAGE: Expected = { minBytes: 0, maxBytes: 0 };
/** An answer that names nothing, and its prefix. */
const NOTHING_MISSING_BYTES = 5;
/** A read answers in messages of its own choosing: this much may come on top. */
const READ_OVERHEAD = 1.02;

/** Every laid case stores things of its own: numbers that were never used. */
let fresh = 0;
const RUN = Date.now() % 2 ** 32;
const nextFresh = (): number => {
  fresh += 1;
  return RUN * 1000 + fresh;
};

/** Lays calls for two tenants in turn on each of some connections. */
function lay(
  subject: Subject,
  options: { readonly connections: number; readonly calls: number },
  add: (layer: Layer) => void,
): Ring[] {
  const builders = Array.from({ length: options.connections }, () => new RingBuilder());
  const headers = new Map<string, Buffer>();
  for (let call = 0; call < options.calls; call += 1) {
    const builder = builders[Math.floor(call / 2) % builders.length];
    const tenant = subject.tenants[call % 2 === 0 ? 0 : 1];
    add({
      call,
      parity: call % 2,
      instance: tenant.instance,
      send(method, messages, expected) {
        const key = `${call % 2} ${method}`;
        const block = headers.get(key) ?? encodeCallHeaders(method, "127.0.0.1", tenant.token);
        headers.set(key, block);
        builder?.addCall(block, encodeGrpcBody(messages), expected);
      },
    });
  }
  return builders.map((each) => each.build());
}

interface Layer {
  readonly call: number;
  readonly parity: number;
  readonly instance: string;
  readonly send: (method: string, messages: readonly Buffer[], expected: Expected) => void;
}

/** Whether this call is one of the five in a hundred that write; spread over both tenants. */
const isWrite = (call: number): boolean => call % 40 === 7 || call % 40 === 30;

export function getActionCase(
  population: Population,
  distribution: Distribution,
  connections = 8,
): GrpcCase {
  const { scale, actions, small } = population;
  const bytes = sizeOf("action");
  return {
    name: `GetActionResult, ${distribution}`,
    connections,
    depth: 16,
    isOnce: false,
    lay: (subject, round = 0) => {
      const choose = chooser(distribution, scale.actions, 1 + round);
      return lay(
        subject,
        { connections, calls: scale.actions },
        ({ call, parity, instance, send }) => {
          const id = choose(parity);
          if (isWrite(call)) {
            const written = blobOf("action", nextFresh()).digest;
            const file = digest(small.of(parity), sizeOf("small"));
            const result = actionResult(id, [file, file]);
            send(
              METHODS.updateActionResult,
              [updateActionResult(instance, written, result)],
              ANY_MESSAGE,
            );
            return;
          }
          const request = getActionResult(instance, digest(actions.of(id), bytes));
          send(METHODS.getActionResult, [request], isMissing(id) ? NO_MESSAGE : ANY_MESSAGE);
        },
      );
    },
  };
}

export function findMissingCase(
  population: Population,
  perCall: 1 | 5 | 1000,
  distribution: Distribution,
): GrpcCase {
  const { scale, small, absent } = population;
  const connections = perCall === 1000 ? 4 : 8;
  const calls = perCall === 1 ? 300_000 : perCall === 5 ? 80_000 : 400;
  return {
    name: `FindMissing of ${perCall}, ${distribution}`,
    connections,
    depth: perCall === 1000 ? 8 : 16,
    isOnce: false,
    lay: (subject, round = 0) => {
      const choose = chooser(distribution, scale.smallBlobs, 1 + round);
      const chooseAbsent = chooser(distribution, ABSENT, 1 + round);
      let drawn = 0;
      const perScale = Math.min(calls, Math.max(80, Math.floor(scale.smallBlobs / perCall)));
      return lay(subject, { connections, calls: perScale }, ({ call, parity, instance, send }) => {
        if (isWrite(call)) {
          const written = batchUpdate(instance, [blobOf("new", nextFresh())]);
          send(METHODS.batchUpdate, [written], ANY_MESSAGE);
          return;
        }
        const asked: Buffer[] = [];
        const missing = new Map<string, Buffer>();
        for (let place = 0; place < perCall; place += 1) {
          drawn += 1;
          // A step that has no factor in common with 10, nor with how many are asked at once.
          const isAbsent = (drawn * 7 + Math.floor(drawn / 10) * 3) % 10 < 3;
          const hash = isAbsent ? absent.of(chooseAbsent(parity)) : small.of(choose(parity));
          const each = digest(hash, sizeOf("small"));
          if (isAbsent) missing.set(hash, each);
          asked.push(each);
        }
        const bytes =
          missing.size === 0 ? NOTHING_MISSING_BYTES : missingBytes([...missing.values()]);
        // Some servers name a digest as often as it was asked for.
        const most = bytes * (distribution === "zipf" ? perCall : 1);
        send(METHODS.findMissing, [findMissing(instance, asked)], {
          minBytes: bytes,
          maxBytes: most,
        });
      });
    },
  };
}

export function readCase(
  population: Population,
  size: "4 KiB" | "1 MiB",
  form: "plain" | "zstd",
  distribution: Distribution,
  connections = size === "1 MiB" ? 4 : 8,
): GrpcCase {
  const { scale, blobs4KiB, absent } = population;
  const isLarge = size === "1 MiB";
  const count = isLarge ? scale.blobs1MiB : scale.blobs4KiB;
  const bytesPerCall = sizeOf(size);
  const folder = form === "plain" ? "blobs" : "compressed-blobs/zstd";
  return {
    name: `Read ${size}, ${form}, ${distribution}`,
    connections,
    depth: isLarge ? 4 : 16,
    isOnce: false,
    bytesPerCall,
    lay: (subject, round = 0) => {
      const choose = chooser(distribution, count, 1 + round);
      const chooseAbsent = chooser(distribution, ABSENT, 1 + round);
      const kind = isLarge && form === "zstd" ? "1 MiB zstd" : size;
      return lay(subject, { connections, calls: count }, ({ call, parity, instance, send }) => {
        if (!isLarge && isWrite(call)) {
          const written = batchUpdate(instance, [blobOf("new", nextFresh())]);
          send(METHODS.batchUpdate, [written], ANY_MESSAGE);
          return;
        }
        const isAbsent = !isLarge && (Math.floor(call / 2) * 7) % 10 < 3;
        const id = choose(parity);
        const hash = isAbsent
          ? absent.of(chooseAbsent(parity))
          : isLarge
            ? blobOf(kind, id).hash
            : blobs4KiB.of(id);
        const request = readRequest(instance, `${folder}/${hash}/${bytesPerCall}`);
        const least = form === "plain" ? bytesPerCall : bytesPerCall * 0.3;
        const right = { minBytes: least, maxBytes: bytesPerCall * READ_OVERHEAD };
        send(METHODS.read, [request], isAbsent ? NO_MESSAGE : right);
      });
    },
  };
}

export function writeCase(
  size: "4 KiB" | "1 MiB",
  form: "plain" | "zstd",
  calls: number,
  connections = size === "1 MiB" ? 4 : 8,
): GrpcCase {
  const isLarge = size === "1 MiB";
  const folder = form === "plain" ? "blobs" : "compressed-blobs/zstd";
  return {
    name: `Write ${size}, ${form}`,
    connections,
    depth: isLarge ? 4 : 16,
    isOnce: true,
    bytesPerCall: sizeOf(size),
    lay: (subject) =>
      lay(subject, { connections, calls }, ({ instance, send }) => {
        const id = nextFresh();
        const { hash, content } = blobOf(size, id);
        const name = `uploads/${uploadId(id)}/${folder}/${hash}/${content.length}`;
        const bytes = form === "plain" ? content : zstdCompressSync(content);
        send(METHODS.write, writeRequests(instance, name, bytes), ANY_MESSAGE);
      }),
  };
}
