import { createHash, randomBytes } from "node:crypto";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

import {
  contentAddressedPath,
  formatContentAddress,
  parseContentAddress,
} from "@glorious/nix-store";
import { expect, test } from "vitest";

import {
  type Cache,
  exportPaths,
  importPaths,
  openCache,
  openSource,
  type OpenSourceOptions,
  type TransferEvent,
  type TransferSummary,
} from "../src/index.ts";
import { type FlywheelWire, startFlywheelWire } from "./flywheel-wire.ts";
import { createTemporaryDirectory } from "./paths.ts";
import { addStaticPath, OTHER_KEY, SOURCE_KEY, type StaticPath } from "./static-cache.ts";
import { sendJson, startWire, type WireHandler, type WireServer } from "./wire.ts";

const FAST = { maxAttempts: 3, baseDelayMs: 1, maxDelayMs: 2 };

/** A folder behind HTTP, a view to import into, and what was told. */
interface Move extends AsyncDisposable {
  readonly folder: string;
  readonly source: WireServer;
  readonly view: FlywheelWire;
  readonly cache: Cache;
  /** `<path>: <code>` of what failed. */
  readonly failures: string[];
  run(
    roots: readonly string[] | "all",
    options?: Partial<OpenSourceOptions> & { readonly followsReferences?: boolean },
  ): Promise<TransferSummary>;
}

async function startMove(intercept: WireHandler = () => false): Promise<Move> {
  await using opened = new AsyncDisposableStack();
  const folder = opened.use(await createTemporaryDirectory()).path;
  const source = opened.use(
    await startWire(async (request, response) => {
      if ((await intercept(request, response)) !== false) return;
      const body = await readFile(join(folder, request.path)).catch(() => undefined);
      if (body === undefined) response.writeHead(404).end();
      else response.writeHead(200).end(body);
    }),
  );
  const view: FlywheelWire = opened.use(
    await startFlywheelWire({
      intercept: async (request, response) => {
        if (request.path !== "/_api/v1/get-missing-paths") return false;
        const { store_path_hashes: asked } = (await request.json()) as {
          store_path_hashes: string[];
        };
        const missing = asked.filter((hash) => !view.state.paths.has(hash));
        return sendJson(response, 200, { missing_paths: missing });
      },
    }),
  );
  const cache = opened.use(await openCache({ server: view.url, view: "main", retry: FAST }));
  const failures: string[] = [];
  const onEvent = (event: TransferEvent): void => {
    if (event.type === "failed") failures.push(`${event.path}: ${event.error.code}`);
  };
  const owned = opened.move();
  return {
    folder,
    source,
    view,
    cache,
    failures,
    run: async (roots, { followsReferences = true, ...options } = {}) => {
      await using from = await openSource({
        url: source.url,
        keys: [SOURCE_KEY],
        retry: FAST,
        ...options,
      });
      return await importPaths({
        source: from,
        cache,
        roots: roots === "all" ? from.list() : roots,
        followsReferences,
        onEvent,
      });
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function visible({ view }: Move, path: StaticPath): boolean {
  return view.state.paths.get(path.hash) === path.narHash;
}

test("a closure comes in one commit, with its signatures and derivers, in whatever compression", async () => {
  await using move = await startMove();
  const a = await addStaticPath(move.folder, "a", { compression: "gzip" });
  const b = await addStaticPath(move.folder, "b", { compression: "br", references: [a] });
  const c = await addStaticPath(move.folder, "c", { compression: "none", references: [a, b] });
  const d = await addStaticPath(move.folder, "d", { references: [c] });

  const summary = await move.run([d.hash]);

  expect(summary).toMatchObject({ paths: 4, added: 4, alreadyPresent: 0, failed: 0, elsewhere: 0 });
  expect(move.view.state.commits).toHaveLength(1);
  const [commit] = move.view.state.commits;
  expect(commit?.externalReferences).toEqual([]);
  expect(commit?.paths.find(({ storePath }) => storePath === d.storePath)).toMatchObject({
    deriver: `${d.baseName}.drv`,
    signatures: [/^Sig: (.*)$/m.exec(d.narInfo)?.[1]],
  });
});

test("what the view has is neither asked for nor sent again", async () => {
  await using move = await startMove();
  const a = await addStaticPath(move.folder, "a");
  const b = await addStaticPath(move.folder, "b", { references: [a] });
  await move.run([a.hash]);
  move.source.log.length = 0;

  const summary = await move.run([b.hash]);

  expect(summary).toMatchObject({ paths: 2, added: 1, alreadyPresent: 1 });
  expect(move.source.log.filter((line) => line.includes(a.hash))).toEqual([]);
});

test("references that only another cache has are counted and left to it", async () => {
  await using move = await startMove();
  const a = await addStaticPath(move.folder, "a");
  const b = await addStaticPath(move.folder, "b", { references: [a] });
  await rm(join(move.folder, `${a.hash}.narinfo`));

  expect(await move.run([b.hash])).toMatchObject({ added: 1, elsewhere: 1, failed: 0 });
  expect(move.view.state.commits[0]?.externalReferences).toEqual([a.hash]);
});

const WEB_PAGE = "<!doctype html><title>Welcome</title>\n";
test.for<readonly [string, Parameters<typeof addStaticPath>[2], string]>([
  [
    "changed after it was signed",
    { forge: (text) => text.replace("NarSize: ", "NarSize: 1") },
    "FORBIDDEN",
  ],
  ["not signed", { forge: (text) => text.replace(/^Sig:.*\n/m, "") }, "FORBIDDEN"],
  ["a web page", { forge: () => WEB_PAGE }, "CORRUPT"],
  [
    "of another store directory",
    { forge: (text) => text.replace("/nix/store/", "/gnu/store/") },
    "INVALID",
  ],
  ["of another path", { forge: (text) => text.replace(/store\/.{4}/, "store/0000") }, "CORRUPT"],
  ["cut short", { forge: (text) => text.slice(0, 100) }, "CORRUPT"],
  ["in bzip2", { forge: (text) => text.replace(/^Compression.*\n/m, "") }, "UNSUPPORTED"],
  ["without a file", { forge: (text) => text.replace(/nar\/./, "nar/_") }, "NOT_FOUND"],
  ["with a file that is a web page", { file: Buffer.from(WEB_PAGE) }, "CORRUPT"],
  ["with a file that is cut short", { file: Buffer.alloc(0) }, "TRUNCATED"],
  ["with the file of another NAR", { wrongNar: Buffer.alloc(200) }, "CORRUPT"],
  ["with a NAR that never ends", { wrongNar: Buffer.alloc(5_000_000) }, "CORRUPT"],
  ["with another NAR in gzip", { wrongNar: Buffer.alloc(200), compression: "gzip" }, "CORRUPT"],
])(
  "a path whose narinfo is %s is named and left out with what needs it, and the rest comes",
  async ([, options, code]) => {
    await using move = await startMove();
    const wrong = await addStaticPath(move.folder, "wrong", options);
    const needing = await addStaticPath(move.folder, "needing", { references: [wrong] });
    const good = await addStaticPath(move.folder, "good");

    const summary = await move.run([needing.hash, good.hash]);

    expect(summary).toMatchObject({ added: 1, failed: 2 });
    expect(visible(move, good)).toBe(true);
    expect(visible(move, needing) || visible(move, wrong)).toBe(false);
    const [first, second] = move.failures;
    expect(first).toMatch(new RegExp(`${wrong.hash}.*: ${code}$`));
    expect(second).toBe(`${needing.storePath}: NOT_FOUND`);
  },
);

test("only keys that were given count, and --unsigned counts none", async () => {
  await using move = await startMove();
  const a = await addStaticPath(move.folder, "a");
  expect(await move.run([a.hash], { keys: [OTHER_KEY] })).toMatchObject({ added: 0, failed: 1 });
  expect(await move.run([a.hash], { keys: [OTHER_KEY, SOURCE_KEY] })).toMatchObject({ added: 1 });
  const unsigned = await addStaticPath(move.folder, "unsigned", {
    forge: (text) => text.replace(/^Sig:.*\n/m, ""),
  });
  expect(await move.run([unsigned.hash], { keys: undefined })).toMatchObject({ added: 1 });
});

test("a download that breaks goes on where it was, by a range or without one", async () => {
  let asked = 0;
  const ranges: (string | undefined)[] = [];
  await using move = await startMove((request, response) => {
    if (!request.path.startsWith("/nar/")) return false;
    asked += 1;
    ranges.push(request.headers.range);
    const start = Number(/\d+/.exec(request.headers.range ?? "")?.[0] ?? 0);
    void readFile(join(move.folder, request.path)).then((file) => {
      if (asked === 3) return response.writeHead(200).end(file);
      const status = start > 0 ? 206 : 200;
      response.writeHead(status, { "content-length": file.length - start });
      response.write(file.subarray(start, start + 400_000), () => response.destroy());
      return undefined;
    });
    return undefined;
  });
  const path = await addStaticPath(move.folder, "large", { contents: randomBytes(1_500_000) });

  expect(await move.run([path.hash])).toMatchObject({ added: 1, failed: 0 });
  expect(ranges).toHaveLength(3);
  expect(ranges[0]).toBeUndefined();
  expect(ranges[1]).toMatch(/^bytes=\d+-$/);
});

test("a source that stops answering ends the import, and the next one goes on", async () => {
  let isDown = false;
  await using move = await startMove((_, response) => isDown && response.destroy());
  const paths: StaticPath[] = [];
  for (let number = 0; number < 20; number += 1) {
    paths.push(await addStaticPath(move.folder, `path-${number}`));
  }
  const hashes = paths.map(({ hash }) => hash);
  await move.run(hashes.slice(0, 10));
  async function* withOutage(): AsyncGenerator<string> {
    isDown = true;
    yield* hashes.slice(10);
  }
  await using from = await openSource({ url: move.source.url, keys: [SOURCE_KEY], retry: FAST });
  const options = { source: from, cache: move.cache, followsReferences: true };

  await expect(importPaths({ ...options, roots: withOutage() })).rejects.toMatchObject({
    code: "UNAVAILABLE",
    message: expect.stringContaining("does not answer"),
  });

  isDown = false;
  expect(await importPaths({ ...options, roots: hashes })).toMatchObject({
    added: 10,
    alreadyPresent: 10,
  });
});

test("a refused token ends the import at once", async () => {
  await using move = await startMove((request, response) => {
    if (request.headers.authorization === "Bearer right") return false;
    return response.writeHead(401).end();
  });
  const a = await addStaticPath(move.folder, "a");
  await expect(move.run([a.hash], { token: "wrong" })).rejects.toMatchObject({
    code: "UNAUTHENTICATED",
  });
  expect(await move.run([a.hash], { token: "right" })).toMatchObject({ added: 1 });
});

test("a token goes to its origin alone, whatever the source redirects to", async () => {
  const seen: (string | undefined)[] = [];
  await using elsewhere = await startWire(async (request, response) => {
    seen.push(request.headers.authorization);
    response.writeHead(200).end(await readFile(join(move.folder, request.path)));
  });
  await using move = await startMove((request, response) => {
    if (!request.path.startsWith("/nar/")) return false;
    const location = `${elsewhere.url}${request.path}`;
    return response.writeHead(307, { location }).end();
  });
  const a = await addStaticPath(move.folder, "a");
  expect(await move.run([a.hash], { token: "secret-token" })).toMatchObject({ added: 1 });
  expect(seen).toEqual([undefined]);
});

test("redirects in a circle are given up", async () => {
  await using move = await startMove((request, response) => {
    if (!request.path.startsWith("/nar/")) return false;
    return response.writeHead(302, { location: request.path }).end();
  });
  const a = await addStaticPath(move.folder, "a");
  expect(await move.run([a.hash])).toMatchObject({ added: 0, failed: 1 });
});

test("a web page is no binary cache", async () => {
  await using move = await startMove((_, response) => response.writeHead(200).end(WEB_PAGE));
  await expect(move.run([])).rejects.toMatchObject({ code: "UNSUPPORTED" });
});

test("a folder, a directory page, a bucket and a view of ours can be listed", async () => {
  let listing: (query: URLSearchParams) => string = () => "";
  await using move = await startMove((request, response) => {
    if (request.path !== "/" && request.path !== "/index") return false;
    return response.writeHead(200).end(listing(request.query));
  });
  const paths: StaticPath[] = [];
  for (const name of ["a", "b", "c"]) paths.push(await addStaticPath(move.folder, name));
  const [a, b, c] = paths as [StaticPath, StaticPath, StaticPath];
  const list = async (options: Partial<OpenSourceOptions> = {}): Promise<string[]> => {
    const url = move.source.url;
    await using from = await openSource({ url, keys: [SOURCE_KEY], retry: FAST, ...options });
    return [...new Set(await Array.fromAsync(from.list()))].sort();
  };
  const all = paths.map(({ hash }) => hash).sort();

  expect(await list({ url: `file://${move.folder}` })).toEqual(all);

  listing = () =>
    paths
      .map(({ hash }) => `<a href="${hash}.narinfo">${hash}.narinfo</a>  ${hash}.ls 26-Nov-2026\n`)
      .join("");
  expect(await list()).toEqual(all);

  listing = (query) => {
    expect(query.get("list-type")).toBe("2");
    const isFirst = query.get("continuation-token") === null;
    if (!isFirst) expect(query.get("continuation-token")).toBe("more+/=");
    const keys = isFirst ? [a, b] : [c];
    const more = isFirst ? "<NextContinuationToken>more+/=</NextContinuationToken>" : "";
    const contents = keys.map(({ hash }) => `<Contents><Key>${hash}.narinfo</Key></Contents>`);
    return `<?xml version="1.0"?><ListBucketResult><IsTruncated>${isFirst}</IsTruncated>${more}${contents.join("")}</ListBucketResult>`;
  };
  expect(await list()).toEqual(all);

  listing = (query) =>
    JSON.stringify(
      query.get("after") === null
        ? { paths: [{ storePath: a.storePath }, { storePath: b.storePath }], next: b.hash }
        : { paths: [{ storePath: c.storePath }] },
    );
  const index = `${move.source.url}/index`;
  expect(await list({ index })).toEqual(all);

  listing = () => `${a.hash}\n${b.storePath}\n${c.baseName}`;
  expect(await list({ index })).toEqual(all);

  listing = () => "Nothing to see here";
  await expect(list()).rejects.toMatchObject({ code: "UNSUPPORTED" });
});

const HELLO = Buffer.from("hello\n");

test.for<readonly [string, string, (nar: Buffer) => Buffer]>([
  ["nar", "fixed:r:sha256:", (nar) => nar],
  ["nar in sha512", "fixed:r:sha512:", (nar) => nar],
  ["file", "fixed:sha256:", () => HELLO],
  ["text", "text:sha256:", () => HELLO],
])(
  "what only its content vouches for has to have that content: its %s",
  async ([, prefix, contentOf]) => {
    await using move = await startMove();
    const right = await addStaticPath(move.folder, "right", { contents: HELLO });
    const wrong = await addStaticPath(move.folder, "wrong", { contents: Buffer.from("evil!\n") });
    const algorithm = prefix.includes("512") ? "sha512" : "sha256";
    const digest = createHash(algorithm).update(contentOf(right.nar)).digest("hex");
    const ca = formatContentAddress(parseContentAddress(`${prefix}${digest}`));
    const claim = async (name: string, { narInfo }: StaticPath): Promise<string> => {
      const path = contentAddressedPath(parseContentAddress(ca), { name, references: [] }) ?? "";
      const hash = path.slice("/nix/store/".length).slice(0, 32);
      const text = narInfo
        .replace(/^StorePath: .*$/m, `StorePath: ${path}`)
        .replace(/^Sig: .*\n/m, `CA: ${ca}\n`);
      await writeFile(join(move.folder, `${hash}.narinfo`), text);
      return hash;
    };
    const roots = [await claim("honest", right), await claim("lying", wrong)];

    expect(await move.run(roots)).toMatchObject({ added: 1, failed: 1 });
    expect(move.failures).toEqual([expect.stringMatching(/-lying: CORRUPT$/)]);
  },
);

test("a content address that does not give a path its name is left out", async () => {
  await using move = await startMove();
  await using target = await createTemporaryDirectory();
  const directory = join(target.path, "out");
  const a = await addStaticPath(move.folder, "a", {
    forge: (text) => `${text}CA: fixed:r:sha256:${"0".repeat(52)}\n`,
  });
  await using source = await openSource({ url: move.source.url, keys: [SOURCE_KEY], retry: FAST });
  await exportPaths({ source, directory, priority: 41, followsReferences: true, roots: [a.hash] });
  const text = await readFile(join(directory, `${a.hash}.narinfo`), "utf8");
  expect(text).toMatch(/^Sig: source-1:/m);
  expect(text).not.toMatch(/^CA:/m);
});

test("an export names no file that holds another NAR than its narinfo says", async () => {
  await using move = await startMove();
  await using target = await createTemporaryDirectory();
  const directory = join(target.path, "out");
  const a = await addStaticPath(move.folder, "a", { contents: Buffer.from("AAAA") });
  const fileLines = /^FileHash: .*\nFileSize: .*$/m;
  // Nobody signs these lines.
  const lie = await addStaticPath(move.folder, "b", {
    contents: Buffer.from("BBBB"),
    forge: (text) => text.replace(fileLines, fileLines.exec(a.narInfo)?.[0] ?? ""),
  });
  await using source = await openSource({ url: move.source.url, keys: [SOURCE_KEY], retry: FAST });
  const options = { source, directory, priority: 41, followsReferences: true };
  expect(await exportPaths({ ...options, roots: [a.hash] })).toMatchObject({ added: 1 });
  const summary = await exportPaths({ ...options, roots: [lie.hash] });
  expect(summary).toMatchObject({ added: 0, failed: 1 });
  expect(await readdir(directory)).not.toContain(`${lie.hash}.narinfo`);
});

test("a bucket that names the same page again and again is listed once", async () => {
  await using move = await startMove((request, response) => {
    if (request.path !== "/") return false;
    response
      .writeHead(200)
      .end(
        "<ListBucketResult><Key>0c5b8vw40dr178xlpddw65q9gf1h2186.narinfo</Key>" +
          "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken></ListBucketResult>",
      );
    return true;
  });
  await using source = await openSource({ url: move.source.url, keys: [SOURCE_KEY], retry: FAST });
  const hashes = await Array.fromAsync(source.list());
  expect(new Set(hashes).size).toBe(1);
});

test("an export holds whole closures only, and goes on when it is run again", async () => {
  await using move = await startMove();
  await using target = await createTemporaryDirectory();
  const directory = join(target.path, "out");
  const a = await addStaticPath(move.folder, "a");
  const b = await addStaticPath(move.folder, "b", { references: [a] });
  const c = await addStaticPath(move.folder, "c");
  const lost = await readFile(join(move.folder, a.url));
  await rm(join(move.folder, a.url));
  await using source = await openSource({ url: move.source.url, keys: [SOURCE_KEY], retry: FAST });
  const options = { source, directory, priority: 41, followsReferences: true };
  const narinfos = async (): Promise<string[]> =>
    (await readdir(directory)).filter((name) => name.endsWith(".narinfo")).sort();

  const first = await exportPaths({ ...options, roots: [b.hash, c.hash] });
  expect(first).toMatchObject({ added: 1, failed: 2 });
  expect(await narinfos()).toEqual([`${c.hash}.narinfo`]);

  await writeFile(join(move.folder, a.url), lost);
  const second = await exportPaths({ ...options, roots: [b.hash, c.hash] });
  expect(second).toMatchObject({ added: 2, alreadyPresent: 1, failed: 0 });
  expect(await narinfos()).toEqual([a, b, c].map(({ hash }) => `${hash}.narinfo`).sort());
  expect(await readFile(join(directory, `${b.hash}.narinfo`), "utf8")).toBe(b.narInfo);
  expect(await readFile(join(directory, a.url))).toEqual(lost);
  expect(await readFile(join(directory, "nix-cache-info"), "utf8")).toBe(
    "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 41\n",
  );
  expect((await readdir(join(directory, "nar"))).filter((name) => name.startsWith("."))).toEqual(
    [],
  );
});
