import { zstdCompressSync } from "node:zlib";

import { Finding, type FuzzTarget } from "../fuzz-target.ts";
import { readAnswer, startEmbeddedServer } from "./embedded-server.ts";

/** What RFC 9110, section 14, makes of the header: a range, `undefined` for the whole, or none that fits. */
function expectRange(
  header: string,
  size: number,
): readonly [start: number, end: number] | undefined | "unsatisfiable" {
  const match = /^bytes=[ \t]*(\d*)-(\d*)[ \t]*$/i.exec(header);
  if (match === null) return undefined;
  const [, first = "", last = ""] = match;
  if (first === "" && last === "") return undefined;
  if (first === "") {
    const length = Math.min(Number(last), size);
    return length === 0 ? "unsatisfiable" : [size - length, size];
  }
  if (last !== "" && BigInt(last) < BigInt(first)) return undefined;
  if (Number(first) >= size) return "unsatisfiable";
  return [Number(first), last === "" ? size : Math.min(Number(last) + 1, size)];
}

/** Without the bytes that no header may hold. */
function isHeaderValue(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 9 || (byte >= 32 && byte !== 127));
}

export const rangeTarget: FuzzTarget = {
  name: "range",
  summary: "text as a Range header: exactly the bytes that RFC 9110 makes of it",
  seeds: async () =>
    ["bytes=0-", "bytes=0-9", "bytes=-5", "bytes=5-", "bytes=0-0", "bytes=9-5", "bytes=0-1,3-4"]
      .concat(["bytes=99999999999999999999-", "bytes=-0", "lines=0-1", "bytes= 1-2 "])
      .map((text) => Buffer.from(text)),
  dictionary: [
    "bytes=",
    "-",
    "0",
    "=",
    ",",
    " ",
    "\t",
    "9007199254740993",
    "1e3",
    "0x10",
    "+1",
    "٣",
  ],
  maxBytes: 60,
  guides: /\/cache-server\/src\/http\/(range|send)/,
  concurrency: 16,
  async open() {
    const server = await startEmbeddedServer();
    const { storePathHash } = server.path;
    const get = (header: string): Promise<Buffer> =>
      server.exchange(
        Buffer.from(
          `GET /main/nar/${storePathHash}.nar HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${header}\r\n`,
          "latin1",
        ),
      );
    const whole = readAnswer(await get(""))?.body ?? zstdCompressSync("");
    return {
      async run(input) {
        const header = input.toString("latin1");
        // Not in a header at all.
        if (!isHeaderValue(input)) return "no header";
        // RFC 9110 knows no such blank, and does not say what becomes of it.
        if (header.includes("\xa0")) return "odd blank";
        const answer = readAnswer(await get(`Range: ${header}\r\n`));
        server.requireCalm();
        if (answer === undefined) throw new Finding("No answer");
        const { status, headers, body } = answer;
        // The HTTP parser takes the blanks around a value away.
        const expected = expectRange(header.replaceAll(/^[ \t]+|[ \t]+$/g, ""), whole.length);
        if (status === 200) {
          if (!body.equals(whole)) throw new Finding("200 with other bytes than the whole");
          // A server may ignore any range it does not like.
          return expected === undefined ? "whole" : "ignored";
        }
        if (status === 416) {
          if (expected !== "unsatisfiable") throw new Finding("416 for a range that is within");
          return "unsatisfiable";
        }
        if (status !== 206 || expected === undefined || expected === "unsatisfiable") {
          throw new Finding(`${status} for a range that is none`);
        }
        const [start, end] = expected;
        if (!body.equals(whole.subarray(start, end))) throw new Finding("206 with other bytes");
        if (headers.get("content-range") !== `bytes ${start}-${end - 1}/${whole.length}`) {
          throw new Finding("206 with another Content-Range than its bytes");
        }
        return "range";
      },
      [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
    };
  },
};
