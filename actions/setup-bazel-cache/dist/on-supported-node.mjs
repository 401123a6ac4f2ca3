import { appendFileSync } from "node:fs";
// packages/setup-action/src/on-supported-node.ts
const NEEDED = [22, 19];
/**
* Runs an entry, whose modules are loaded only now, when this Node can run them. Otherwise the main part says so in one
* line, the post part has nothing to do, and the job goes on without the cache. This module imports nothing that an old
* Node would not have.
*/
async function onSupportedNode(part, entry) {
	const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
	if (major > NEEDED[0] || major === NEEDED[0] && minor >= NEEDED[1]) {
		await entry();
		return;
	}
	if (part === "post") return;
	const message = `The cache needs Node ${NEEDED.join(".")} or newer, and this runner's is ${process.versions.node}`;
	const isStrict = process.env["INPUT_FAIL-ON-ERROR"] === "true";
	process.stdout.write(`::${isStrict ? "error" : "warning"}::${message}; the job goes on without it.\n`);
	const output = process.env["GITHUB_OUTPUT"];
	if (output !== void 0) appendFileSync(output, `status=degraded\nreason=${message}\ncan-push=false\n`);
	if (isStrict) process.exitCode = 1;
}
export { onSupportedNode as t };
