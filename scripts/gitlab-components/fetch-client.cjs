// Stands within single quotes of the shell, so it has none itself; old Nodes must be able to parse all of it.
const [directory, sha256, mustKnow] = process.argv.slice(1);
const stop = (why) => {
  console.error(`flywheel: ${why}: the job goes on without the cache`);
  process.exit(1);
};
const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 22 || (major === 22 && minor < 19)) {
  stop(`Node ${process.versions.node} is too old, the client runs with 22.19 or newer`);
}
const { createHash } = require("node:crypto");
const { mkdirSync, readFileSync, writeFileSync } = require("node:fs");
const { env } = process;

const [, named] = /^server-url=(.*)$/m.exec(readFileSync(0, "utf8")) || ["", ""];
let server = named.trim().replace(/\$\{?(\w+)\}?/g, (_, name) => env[name] || "");
server = server || env.FLYWHEEL_SERVER;
if (!server && env.FLYWHEEL_RUNNER_CONFIG) {
  try {
    ({ server } = JSON.parse(readFileSync(env.FLYWHEEL_RUNNER_CONFIG, "utf8")));
  } catch (error) {
    stop(`${env.FLYWHEEL_RUNNER_CONFIG} cannot be read, ${error.message}`);
  }
}
if (!server) stop("no server is named, neither by the job nor by its runner");
if (!/^https?:/.test(server) || !URL.canParse(server)) stop(`${server} is no server address`);

const url = `${server.replace(/\/*$/, "/")}_flywheel/v1/client/${sha256}/flywheel.mjs`;
const aborted = new AbortController();
// Three round trips to the other side of the world; more where the job must know, or where this machine is as busy as
// the time tells that it took to start Node.
const waitMs = mustKnow === "true" ? 2000 : Math.min(2000, Math.max(880, 15 * performance.now()));
let timer = setTimeout(() => aborted.abort(), waitMs);
const fetchClient = async () => {
  const answer = await fetch(url, { signal: aborted.signal });
  clearTimeout(timer);
  timer = setTimeout(() => aborted.abort(), 10000);
  if (!answer.ok) stop(`the server answered ${answer.status} for the client of this component`);
  const bytes = Buffer.from(await answer.arrayBuffer());
  clearTimeout(timer);
  if (createHash("sha256").update(bytes).digest("hex") !== sha256) {
    stop("what came is not the client that this component pins, and is not run");
  }
  const bin = `${directory}/bin`;
  mkdirSync(bin, { recursive: true });
  writeFileSync(`${bin}/flywheel.mjs`, bytes);
  const node = JSON.stringify(process.execPath);
  const launcher = `#!/bin/sh\nexec ${node} "\${0%/*}/flywheel.mjs" "$@"\n`;
  writeFileSync(`${bin}/flywheel`, launcher, { mode: 0o755 });
};
fetchClient().catch((error) => {
  const why = aborted.signal.aborted ? "it took too long" : (error.cause || error).message;
  stop(`the client could not be fetched from the server, ${why}`);
});
