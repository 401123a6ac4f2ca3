import { openFilesystemStore } from "../src/index.ts";

/** Begins a put in the directory it is given, says so when the bytes are on disk, and never ends. */
const directory = process.argv[2];
if (directory === undefined) throw new Error("usage: stuck-writer.ts DIRECTORY");

const store = await openFilesystemStore({ directory, fsync: "none" });
const source = async function* (): AsyncGenerator<Buffer> {
  yield Buffer.alloc(3 * 2 ** 20, "some bytes ");
};
await store.put(source(), {
  key: async () => {
    process.stdout.write("stuck\n");
    setInterval(() => {}, 60_000);
    await new Promise(() => {});
    return undefined;
  },
});
