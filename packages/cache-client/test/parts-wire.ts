import type { ServerResponse } from "node:http";

import { decodeZstd } from "@glorious/nix-store";

import { type FlywheelWire, startFlywheelWire } from "./flywheel-wire.ts";
import { sendJson, sha256Hex, type WireRequest } from "./wire.ts";

/** One upload in parts as the fake holds it. */
export interface FakeUpload {
  readonly id: string;
  readonly narHash: string;
  readonly narSize: number;
  readonly partBytes: number;
  readonly parts: Map<number, Buffer>;
}

export interface PartsWire extends FlywheelWire {
  readonly uploads: Map<string, FakeUpload>;
  /** Numbers of the parts that arrived whole, in order of arrival. */
  readonly arrived: number[];
  readonly level: number;
}

export interface PartsWireOptions {
  readonly level?: number;
  readonly thresholdBytes?: number;
  /** Sees every request about parts first; answers it, or returns false. */
  readonly intercept?: (wire: PartsWire, request: WireRequest, response: ServerResponse) => unknown;
}

const PART_BYTES = 8 * 2 ** 20;
const API = "/_flywheel/v1/views/main/uploads";

/** Speaks our server's uploads in parts beside the rest of its wire. */
export async function startPartsWire(options: PartsWireOptions = {}): Promise<PartsWire> {
  const { level = 3, thresholdBytes = 2 ** 20 } = options;
  const uploads = new Map<string, FakeUpload>();
  const arrived: number[] = [];
  const wire: PartsWire = Object.assign(
    await startFlywheelWire({
      flywheel: { uploadParts: { thresholdBytes, partBytes: PART_BYTES } },
      intercept: async (request, response) => {
        if (!request.path.startsWith(API)) return false;
        if ((await options.intercept?.(wire, request, response)) ?? false) return true;
        const [status, body] = await answer(wire, request);
        sendJson(response, status, body);
        return true;
      },
    }),
    { uploads, arrived, level },
  );
  return wire;
}

const refuse = (code: number, error: string, more: object = {}): readonly [number, unknown] => [
  code,
  { code, error, message: `refused as ${error}`, ...more },
];

async function answer(wire: PartsWire, request: WireRequest): Promise<readonly [number, unknown]> {
  const [id, , number] = request.path.slice(API.length + 1).split("/");
  if (request.path === API) return begin(wire, await request.json());
  const upload = wire.uploads.get(id ?? "");
  if (upload === undefined) return refuse(404, "NOT_FOUND");
  if (request.method === "DELETE") {
    wire.uploads.delete(upload.id);
    return [200, {}];
  }
  if (request.method === "PUT") {
    const body = await request.body();
    if (request.headers["content-length"] !== String(body.length)) return refuse(400, "TRUNCATED");
    if (request.headers["x-flywheel-sha256"] !== sha256Hex(body)) return refuse(422, "CORRUPT");
    upload.parts.set(Number(number), body);
    wire.arrived.push(Number(number));
    return [200, {}];
  }
  return complete(wire, upload);
}

function begin(wire: PartsWire, body: unknown): readonly [number, unknown] {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- our own client's
  const { narHash, narSize, partBytes } = body as Omit<FakeUpload, "id" | "parts">;
  const held = wire.state.nars.get(narHash);
  if (held !== undefined) {
    return [200, { kind: "Deduplicated", fileHash: sha256Hex(held), fileSize: held.length }];
  }
  const known = [...wire.uploads.values()].find((upload) => upload.narHash === narHash);
  const id = known?.id ?? `upload-${wire.log.length}`;
  const upload = known ?? { id, narHash, narSize, partBytes, parts: new Map() };
  wire.uploads.set(id, upload);
  return [200, { id, level: wire.level, partBytes, parts: [...upload.parts.keys()] }];
}

async function complete(wire: PartsWire, upload: FakeUpload): Promise<readonly [number, unknown]> {
  const { narHash, narSize, partBytes, parts } = upload;
  const numbers = Array.from({ length: Math.ceil(narSize / partBytes) }, (_, number) => number);
  const missingParts = numbers.filter((number) => !parts.has(number));
  if (missingParts.length > 0) return refuse(409, "CONFLICT", { missingParts });
  const encoded = Buffer.concat(numbers.map((number) => parts.get(number) ?? Buffer.alloc(0)));
  wire.uploads.delete(upload.id);
  const nar = Buffer.concat(await Array.fromAsync(decodeZstd(once(encoded))));
  if (sha256Hex(nar) !== narHash) return refuse(422, "CORRUPT");
  wire.state.nars.set(narHash, encoded);
  return [200, { kind: "Uploaded", fileHash: sha256Hex(encoded), fileSize: encoded.length }];
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}
