import { createHash } from "node:crypto";
import { zstdDecompressSync } from "node:zlib";

import { formatHash, parseNarInfo } from "@glorious/nix-store";

import { Finding, type FuzzTarget } from "../fuzz-target.ts";
import {
  atticNarInfo,
  createSamplePath,
  type EmbeddedServer,
  readAnswer,
  startEmbeddedServer,
} from "./embedded-server.ts";

/** An input is the header's value, a line break, and the body. */
function toInput(
  json: string,
  nar: Buffer,
  size: string = String(Buffer.byteLength(json)),
): Buffer {
  return Buffer.concat([Buffer.from(`${size}\n${json}`), nar]);
}

/** What the server now serves under a path that it took, held against what was sent. */
async function checkServed(server: EmbeddedServer, json: string, rest: Buffer): Promise<void> {
  const said = JSON.parse(json) as { store_path_hash: string; nar_size: number };
  const base = `${server.url}/main`;
  const narInfo = await fetch(`${base}/${said.store_path_hash}.narinfo`);
  if (narInfo.status !== 200) throw new Finding(`What was taken answers ${narInfo.status}`);
  const info = parseNarInfo(await narInfo.text());
  const nar = rest.subarray(0, said.nar_size);
  const hash = createHash("sha256").update(nar).digest("hex");
  if (info.narSize !== nar.length || formatHash(info.narHash, "base16") !== `sha256:${hash}`) {
    throw new Finding("The narinfo is not about the bytes that were sent");
  }
  const served = await fetch(`${base}/${info.url}`);
  const body = Buffer.from(await served.arrayBuffer());
  if (served.status !== 200 || !zstdDecompressSync(body).equals(nar)) {
    throw new Finding("The NAR is not what was sent");
  }
}

export const preambleTarget: FuzzTarget = {
  name: "preamble",
  summary: "bytes as Attic's upload with its JSON in front: refused, or served exactly as sent",
  seeds: async () => {
    const inputs: Buffer[] = [];
    for (const name of ["one", "two"]) {
      const sample = await createSamplePath(name, `contents of ${name}`);
      const json = atticNarInfo(sample);
      inputs.push(toInput(json, sample.nar), toInput(`${json} `, sample.nar));
      inputs.push(toInput(json, Buffer.concat([sample.nar, Buffer.from("more")])));
      inputs.push(toInput(json, sample.nar.subarray(0, 50)), toInput(json, sample.nar, "999999"));
    }
    return inputs;
  },
  dictionary: [
    ...['"cache":"main"', '"references":[', '"nar_size":', '"nar_hash":"sha256:', '"sigs":["a:b"]'],
    ...['"ca":"text:sha256:', '"deriver":"', "null", "0", "-1", "1e3", "\\u0000", "\n", "{", "}"],
  ],
  maxBytes: 4096,
  guides: /\/cache-server\/src\//,
  concurrency: 8,
  async generate(random) {
    const name = `p${random.below(2 ** 31)}`;
    const sample = await createSamplePath(name, random.bytes(random.below(60)).toString("hex"));
    return toInput(atticNarInfo(sample), sample.nar);
  },
  async open() {
    const server = await startEmbeddedServer();
    return {
      async run(input) {
        const line = input.indexOf("\n");
        const size = input.toString("latin1", 0, Math.max(line, 0));
        if (line < 0 || !/^[\x20-\x7e]{0,40}$/.test(size)) return "no header";
        const body = input.subarray(line + 1);
        const head = [
          "PUT /_api/v1/upload-path HTTP/1.1",
          "Host: x",
          "Connection: close",
          `Authorization: Bearer ${server.token}`,
          `X-Attic-Nar-Info-Preamble-Size: ${size}`,
          `Content-Length: ${body.length}`,
        ];
        const request = Buffer.concat([Buffer.from(`${head.join("\r\n")}\r\n\r\n`), body]);
        const answer = readAnswer(await server.exchange(request));
        server.requireCalm();
        if (answer === undefined) throw new Finding("No answer");
        const { status } = answer;
        if (status >= 500) throw new Finding(`The server answers ${status}`);
        if (status === 200) {
          const sizeBytes = Number(size);
          await checkServed(server, body.toString("utf8", 0, sizeBytes), body.subarray(sizeBytes));
        }
        return String(status);
      },
      [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
    };
  },
};
