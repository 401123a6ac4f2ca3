import { a as exportVariable, c as info, d as setFailed, f as setOutput, h as warning, m as startGroup, o as getInput, p as setSecret, r as endGroup, s as getState, t as addPath, u as saveState, x as summary } from "./core.mjs";
import os, { constants, tmpdir } from "node:os";
import { createHash } from "node:crypto";
import { fileURLToPath } from "node:url";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
// packages/core/src/cache-error.ts
/** A cache operation failed in a way the caller can act on. */
var CacheError = class extends Error {
	name = "CacheError";
	code;
	/** One sentence telling the reader what to do next. */
	hint;
	constructor(code, message, options = {}) {
		super(message, "cause" in options ? { cause: options.cause } : void 0);
		this.code = code;
		this.hint = options.hint;
	}
};
/** One line for people: the message, then the hint when there is one. */
function describeError(error) {
	if (!(error instanceof Error)) return String(error);
	const hint = error instanceof CacheError ? error.hint : void 0;
	return hint === void 0 ? error.message : `${error.message} (${hint})`;
}
// packages/setup-action/src/announce-result.ts
/** Sets the outputs and says in a few lines what the job has; each cause is one annotation. */
function announceResult(result, failOnError) {
	const outputs = {
		status: result.status,
		reason: result.reason,
		tenant: result.tenant ?? "",
		cache: result.cache ?? "",
		"extra-caches": result.extraCaches.join(" "),
		trust: result.trust ?? "",
		"can-push": String(result.canPush),
		"push-mode": result.pushMode,
		substituter: result.substituter ?? "",
		"public-key": result.publicKeys.join(" "),
		"bazelrc-path": result.bazel?.rcPath ?? "",
		"remote-cache": result.bazel?.remoteCache ?? "",
		"credential-helper": result.bazel?.credentialHelper ?? ""
	};
	for (const [name, value] of Object.entries(outputs)) setOutput(name, value);
	const already = result.existing ? "Found the cache already set up" : "Cache";
	info(`${already}: ${result.status}. ${result.reason}`);
	for (const line of result.hint ?? []) info(`  ${line}`);
	for (const { message, hint } of result.warnings) warning(hint === void 0 ? message : `${message.replace(/\.$/, "")}. ${hint}`);
	if (failOnError && result.status === "degraded") setFailed(`fail-on-error is set, and the cache is degraded: ${result.reason}`);
}
// packages/setup-action/src/finish-entry.ts
/**
* Runs an entry to its end and ends the process. Whatever goes wrong in it, awaited or not, is one warning, and the
* job goes on; only a strict one fails.
*/
async function finishEntry(isStrict, entry) {
	let isOver = false;
	const giveUp = async (error) => {
		if (isOver) return;
		isOver = true;
		const message = `Building without the cache: ${describeError(error)}`;
		if (isStrict()) setFailed(message);
		else warning(message);
		setOutput("status", "degraded");
		await end();
	};
	process.on("uncaughtException", (error) => void giveUp(error));
	process.on("unhandledRejection", (error) => void giveUp(error));
	try {
		await entry();
	} catch (error) {
		await giveUp(error);
	}
	isOver = true;
	await end();
}
/** Sockets that nobody waits for would keep the process alive; what was printed is to arrive first. */
async function end() {
	for (const stream of [process.stdout, process.stderr]) {
		const { promise, resolve } = Promise.withResolvers();
		stream.write("", () => resolve());
		await promise;
	}
	process.exit();
}
// packages/setup-action/src/input-error.ts
/** An input that the workflow's author got wrong: the only thing that fails a job by default. */
var InputError = class extends Error {
	name = "InputError";
};
// packages/setup-action/src/install-command.ts
/**
* Keeps the `flywheel` command in the runner's tool cache and returns the folder to put on PATH. The version is the
* content's, so that each version of the action finds its own.
*
* @throws {Error} when the runner has no tool cache or it cannot be written.
*/
async function installCommand(bundle, temporaryDirectory) {
	const { cacheDir, find } = await import("./toolkit.mjs");
	const files = {
		"flywheel.mjs": await readFile(bundle),
		flywheel: Buffer.from(launcher(process.execPath))
	};
	const version = `0.0.0-h${createHash("sha256").update(files["flywheel.mjs"]).update(process.execPath).digest("hex").slice(0, 16)}`;
	const found = find("flywheel", version);
	if (found !== "" && await holdsJust(found, files)) return found;
	const folder = await mkdtemp(path.join(temporaryDirectory, "flywheel-command-"));
	try {
		for (const [name, bytes] of Object.entries(files)) await writeFile(path.join(folder, name), bytes, { mode: 493 });
		return await cacheDir(folder, "flywheel", version);
	} finally {
		await rm(folder, {
			recursive: true,
			force: true
		});
	}
}
/** Any job before could write there, and what is in this folder comes first in PATH. */
async function holdsJust(folder, files) {
	const entries = await readdir(folder, { withFileTypes: true });
	if (entries.length !== Object.keys(files).length) return false;
	for (const [name, bytes] of Object.entries(files)) {
		if (!entries.some((entry) => entry.name === name && entry.isFile())) return false;
		if (!bytes.equals(await readFile(path.join(folder, name)))) return false;
	}
	return true;
}
/** Runners bring a Node of their own that is often not on PATH; after an update of the runner the other way round. */
function launcher(node) {
	return `#!/bin/sh
node='${node.replaceAll("'", String.raw`'\''`)}'
[ -x "$node" ] || node=node
exec "$node" "$(dirname "$(readlink -f "$0")")/flywheel.mjs" "$@"
`;
}
// packages/setup-action/src/kept-caches.ts
const LOCK_FILES = {
	nix: ["flake.lock", "flake.nix"],
	bazel: [
		"MODULE.bazel.lock",
		"MODULE.bazel",
		"WORKSPACE"
	]
};
/** Says what is kept, and under which key: the lock files of the work tree decide. */
async function planKeptCache(kind, env) {
	const hash = createHash("sha256");
	for (const name of LOCK_FILES[kind]) {
		const file = path.join(env["GITHUB_WORKSPACE"] ?? ".", name);
		hash.update(`${name}\n`).update(await readFile(file).catch(() => ""));
	}
	const restoreKey = `flywheel-${kind}-${process.platform}-${process.arch}-`;
	const key = `${restoreKey}${hash.digest("hex").slice(0, 32)}`;
	return {
		kind,
		paths: keptPaths(kind, env),
		key,
		restoreKey
	};
}
/** Nix's answers about narinfos are not among them: what was absent once may be there now. */
function keptPaths(kind, env) {
	const home = env["HOME"] ?? os.homedir();
	const caches = env["XDG_CACHE_HOME"] ?? path.join(home, ".cache");
	if (kind === "bazel") {
		const user = env["USER"] || os.userInfo().username;
		return [path.join(home, ".cache/bazel", `_bazel_${user}`, "cache/repos/v1")];
	}
	return [
		"eval-cache-v*",
		"fetcher-cache-v*",
		"gitv3",
		"tarball-cache*"
	].map((name) => path.join(caches, "nix", name));
}
/** Restores what is kept; `found` says under which key. */
async function restoreKept(cache) {
	const { isFeatureAvailable, restoreCache } = await import("./toolkit.mjs");
	if (!isFeatureAvailable()) throw new Error("this forge has no cache service for its jobs");
	const found = await restoreCache([...cache.paths], cache.key, [cache.restoreKey]);
	return found === void 0 ? cache : {
		...cache,
		found
	};
}
/** Saves what is kept, unless it is there under the very same key; tells whether it did. */
async function saveKept(cache) {
	if (cache.found === cache.key) return false;
	const { saveCache } = await import("./toolkit.mjs");
	return await saveCache([...cache.paths], cache.key) >= 0;
}
// packages/setup-action/src/parse-answer.ts
const STATUSES = /* @__PURE__ */ new Set([
	"ready",
	"read-only",
	"pending",
	"degraded",
	"disabled"
]);
/** @throws {Error} when it is no answer of `flywheel setup` that this action understands. */
function parseSetupResult(answer) {
	const fields = asFields(answer, "setup");
	if (fields["version"] !== 1 || !STATUSES.has(fields["status"])) throw new Error("flywheel setup gave an answer of another version");
	return answer;
}
/** @throws {Error} when it is no answer of `flywheel drain`. */
function parseDrainResult(answer) {
	const fields = asFields(answer, "drain");
	if (typeof fields["report"] !== "object" || fields["report"] === null) throw new Error("flywheel drain gave no report");
	return answer;
}
function asFields(answer, word) {
	if (typeof answer === "object" && answer !== null) return answer;
	throw new Error(`flywheel ${word} gave no answer that can be read`);
}
// packages/setup-action/src/post-state.ts
const NAME = "setup";
function savePostState(state) {
	saveState(NAME, state);
}
/** `undefined` when the main part did not get that far. */
function readPostState() {
	const text = getState(NAME);
	return text === "" ? void 0 : JSON.parse(text);
}
// packages/setup-action/src/run-flywheel.ts
/**
* Runs the bundled `flywheel` with this process's own Node and parses the last line of its standard output as JSON.
*
* @throws {Error} when it fails, says nothing that can be parsed, or takes too long.
*/
async function runFlywheel(run) {
	const child = spawn(process.execPath, [run.bundle, ...run.words], {
		stdio: [
			"pipe",
			"pipe",
			"pipe"
		],
		env: {
			...process.env,
			...compileCacheIn(process.env)
		}
	});
	let stdout = "";
	child.stdout.setEncoding("utf8").on("data", (text) => stdout += text);
	createInterface({ input: child.stderr }).on("line", run.onLine);
	child.stdin.on("error", () => {});
	child.stdin.end(run.input ?? "");
	const { promise, resolve, reject } = Promise.withResolvers();
	const timer = setTimeout(() => {
		child.kill("SIGKILL");
		reject(/* @__PURE__ */ new Error(`flywheel ${run.words[0]} took longer than ${run.timeoutMs / 1e3} s`));
	}, run.timeoutMs);
	child.on("error", reject);
	child.on("exit", (code, signal) => {
		setImmediate(() => resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])));
	});
	const status = await promise.finally(() => clearTimeout(timer));
	if (status !== 0) throw new Error(`flywheel ${run.words[0]} ended with ${status}`);
	return parseLastLine(stdout, run.words[0] ?? "");
}
/** Where Node keeps the bundle's compiled form for the other processes of this job; `undefined` where jobs have no folder. */
function compileCache(env) {
	const folder = env["RUNNER_TEMP"] ?? "";
	return folder === "" ? void 0 : path.join(folder, "flywheel-compile-cache");
}
function compileCacheIn(env) {
	const folder = compileCache(env);
	return folder === void 0 ? {} : { NODE_COMPILE_CACHE: folder };
}
function parseLastLine(stdout, word) {
	const text = stdout.trimEnd();
	try {
		return JSON.parse(text.startsWith("{\n") ? text : text.slice(text.lastIndexOf("\n") + 1));
	} catch (error) {
		throw new Error(`flywheel ${word} gave no answer that can be read`, { cause: error });
	}
}
// packages/setup-action/src/ancestor-environment.ts
/**
* Reads what runners of the ancestor's kind have beside `ATTIC_SERVER` and `ATTIC_CACHE`, which the `flywheel` command
* itself knows: the secret `ATTIC_TOKEN`, and `BAZEL_REMOTE_CACHE` where nothing else names a server. Not after an
* earlier step of the same job exported it again.
*/
function describeServer(env) {
	const isGiven = (name) => (env[name] ?? "") !== "";
	if (isGiven("FLYWHEEL_SESSION")) return {};
	const isNamed = [
		"FLYWHEEL_SERVER",
		"FLYWHEEL_RUNNER_CONFIG",
		"ATTIC_SERVER"
	].some(isGiven);
	const [bazel, token] = [env["BAZEL_REMOTE_CACHE"], env["ATTIC_TOKEN"]];
	return {
		...isNamed || !isGiven("BAZEL_REMOTE_CACHE") ? {} : { serverUrl: toHttp(bazel ?? "") },
		...isGiven("ATTIC_TOKEN") ? { token: token ?? "" } : {}
	};
}
/** Both protocols of our server are on one port; the path after the host is the view's. */
function toHttp(address) {
	const url = address.replace(/^grpc(s?):/, "http$1:");
	return URL.canParse(url) ? new URL(url).origin : address;
}
// packages/setup-action/src/read-inputs.ts
/** Reads one input as text; empty counts as not given. */
function readText(name) {
	const text = getInput(name);
	return text === "" ? void 0 : text;
}
/**
* Reads one input of a closed set. Empty, as a variable that is not set makes it, stands for the first of the set.
*
* @throws {InputError} for any other value.
*/
function readChoice(name, choices) {
	const text = getInput(name);
	const found = text === "" ? choices[0] : choices.find((choice) => choice === text);
	if (found !== void 0) return found;
	throw new InputError(`${name} is ${JSON.stringify(text)}; it may be ${choices.join(", ")}`);
}
/** Reads `true` or `false`; empty stands for `whenEmpty`. @throws {InputError} for anything else. */
function readBoolean(name, whenEmpty) {
	return readChoice(name, whenEmpty ? ["true", "false"] : ["false", "true"]) === "true";
}
/**
* Reads a number of seconds from 1 up to a day; empty stands for `whenEmpty`.
*
* @throws {InputError} for anything else.
*/
function readSeconds(name, whenEmpty) {
	const text = getInput(name);
	if (text === "") return whenEmpty;
	const seconds = Number(text);
	if (/^\d+$/.test(text) && seconds >= 1 && seconds <= 86400) return seconds;
	throw new InputError(`${name} is ${JSON.stringify(text)}; it is a whole number of seconds, such as 30`);
}
/** Reads a whole number that may be left out. @throws {InputError} for anything else. */
function readCount(name) {
	const text = getInput(name);
	if (text === "") return void 0;
	if (/^\d{1,9}$/.test(text)) return Number(text);
	throw new InputError(`${name} is ${JSON.stringify(text)}; it is a whole number, such as 40`);
}
/** Reads one regular expression a line. @throws {InputError} for one that is none. */
function readPatterns(name) {
	const lines = getInput(name).split("\n").map((line) => line.trim()).filter((line) => line !== "");
	for (const line of lines) if (!isPattern(line)) throw new InputError(`${name} holds ${JSON.stringify(line)}, which is no regular expression`);
	return lines;
}
/** Reads words, one a line or several. */
function readWords(name) {
	return getInput(name).split(/\s+/).filter((word) => word !== "");
}
function isPattern(text) {
	try {
		return new RegExp(text) instanceof RegExp;
	} catch {
		return false;
	}
}
/** Reads an `http` or `https` address that may be left out. @throws {InputError} for another one. */
function readUrl(name) {
	const text = readText(name);
	if (text === void 0) return void 0;
	const url = URL.canParse(text) ? new URL(text) : void 0;
	if (url?.protocol === "https:" || url?.protocol === "http:") return text;
	throw new InputError(`${name} is no address such as https://cache.example.org`);
}
// packages/setup-action/src/setup-inputs.ts
/**
* Reads the inputs of an action that sets these kinds up; nothing else reads any.
*
* @throws {InputError} when the workflow's author got one wrong.
*/
function readInputs(kinds, env) {
	const failOnError = readBoolean("fail-on-error", false);
	const named = describeServer(env);
	const forNix = kinds.includes("nix");
	return {
		request: {
			version: 1,
			kinds,
			serverUrl: readUrl("server-url") ?? named.serverUrl,
			view: readText("cache"),
			extraViews: forNix ? readWords("extra-caches") : [],
			audience: readText("audience"),
			token: readText("token") ?? named.token,
			push: readChoice("push", [
				"auto",
				"true",
				"false"
			]),
			pushMode: forNix ? readChoice("push-mode", [
				"auto",
				"hook",
				"store-diff",
				"none"
			]) : "none",
			pushFilter: forNix ? readPatterns("push-filter") : [],
			configureSubstituter: forNix && readBoolean("configure-substituter", true),
			priority: forNix ? readCount("priority") : void 0,
			timeoutSeconds: readSeconds("timeout", 30),
			drainTimeoutSeconds: readSeconds("drain-timeout", 300),
			cacheMode: env["ACTIONS_CACHE_MODE"],
			bazel: kinds.includes("bazel") ? readBazelInputs() : void 0,
			temporaryDirectory: env["RUNNER_TEMP"],
			workspace: env["GITHUB_WORKSPACE"],
			jobPid: process.ppid
		},
		failOnError,
		keeps: kinds.filter((kind) => readBoolean(kind === "nix" ? "keep-evaluation" : "keep-repositories", false))
	};
}
function readBazelInputs() {
	return {
		instanceName: readText("instance-name"),
		rc: readChoice("bazelrc", [
			"user",
			"file",
			"none"
		]),
		configName: readText("config-name"),
		compression: readBoolean("compression", true),
		download: readChoice("download", [
			"toplevel",
			"minimal",
			"all"
		]),
		remoteTimeoutSeconds: readSeconds("remote-timeout", 60),
		bazelVersion: readText("bazel-version")
	};
}
// packages/setup-action/src/time-box.ts
/** Gives up on work that takes too long; it goes on unheard. @throws {Error} then, naming the work. */
async function timeBox(what, timeoutMs, work) {
	const { promise, reject } = Promise.withResolvers();
	const timer = setTimeout(() => {
		reject(/* @__PURE__ */ new Error(`${what} took longer than ${timeoutMs / 1e3} s`));
	}, timeoutMs);
	work.catch(() => {});
	return Promise.race([work, promise]).finally(() => clearTimeout(timer));
}
// packages/setup-action/src/run-main.ts
/** The command keeps its own time limit; beyond that much more it is killed. */
const GRACE_MS$1 = 5e3;
const KEEP_TIMEOUT_MS$1 = 6e4;
/** The main part of an action that sets these kinds up. The bundle lies beside the entry. */
async function runMain(kinds, bundle) {
	let failOnError = process.env["INPUT_FAIL-ON-ERROR"] === "true";
	await finishEntry(() => failOnError, async () => {
		let inputs;
		try {
			inputs = readInputs(kinds, process.env);
		} catch (error) {
			if (!(error instanceof InputError)) throw error;
			setOutput("status", "degraded");
			setOutput("reason", error.message);
			setFailed(error.message);
			return;
		}
		({failOnError} = inputs);
		await setUp(inputs, bundle);
	});
}
async function setUp(inputs, bundle) {
	const { request } = inputs;
	if (request.token !== void 0) setSecret(request.token);
	const installing = installCommand(bundle, request.temporaryDirectory ?? tmpdir());
	installing.catch(() => {});
	const result = await askForSetup(inputs, bundle);
	announceResult(result, inputs.failOnError);
	const formerEnvironment = formerValues(result.environment);
	for (const [name, value] of Object.entries(result.environment)) exportVariable(name, value);
	exportVariable("FLYWHEEL_STATUS", result.status);
	for (const folder of result.path) addPath(folder);
	try {
		addPath(await timeBox("Keeping the flywheel command", KEEP_TIMEOUT_MS$1, installing));
	} catch (error) {
		info(`The flywheel command is not on PATH: ${describeError(error)}`);
	}
	savePostState(toPostState(inputs, result, {
		kept: await restoreAll(inputs.keeps, result),
		formerEnvironment
	}));
}
async function askForSetup({ request }, bundle) {
	startGroup("Setting up the cache");
	try {
		const result = parseSetupResult(await runFlywheel({
			bundle,
			words: [
				"setup",
				"--request",
				"-"
			],
			input: JSON.stringify(request),
			timeoutMs: request.timeoutSeconds * 1e3 + GRACE_MS$1,
			onLine: (line) => info(line)
		}));
		for (const secret of result.masks) setSecret(secret);
		return result;
	} catch (error) {
		const reason = describeError(error);
		return {
			version: 1,
			status: "degraded",
			reason,
			canPush: false,
			pushMode: "none",
			extraCaches: [],
			publicKeys: [],
			environment: {},
			path: [],
			masks: [],
			notes: [],
			warnings: [{
				code: "setup-failed",
				message: reason
			}],
			existing: false,
			timings: {
				discoverMs: 0,
				exchangeMs: 0,
				agentMs: 0,
				totalMs: 0
			}
		};
	} finally {
		endGroup();
	}
}
/** What the forge's cache keeps is written by trusted jobs only, and read by them only. */
async function restoreAll(keeps, result) {
	if (keeps.length === 0) return [];
	if (result.trust !== "trusted") {
		info("Only trusted jobs keep further caches in the forge's own: this job does not.");
		return [];
	}
	const kept = [];
	for (const kind of keeps) try {
		const plan = await planKeptCache(kind, process.env);
		const cache = await timeBox("Restoring it", KEEP_TIMEOUT_MS$1, restoreKept(plan));
		info(`${kind}: ${cache.found === void 0 ? "nothing was kept yet" : `restored ${cache.found}`}`);
		kept.push(cache);
	} catch (error) {
		info(`${kind}: what the forge's cache keeps is left out: ${describeError(error)}`);
	}
	return kept;
}
function toPostState({ request, failOnError }, result, more) {
	return {
		result: {
			status: result.status,
			reason: result.reason,
			session: result.existing ? void 0 : result.session,
			isExisting: result.existing
		},
		drainTimeoutSeconds: request.drainTimeoutSeconds,
		failOnError,
		...more
	};
}
/** No step can take a variable away again, so one that was not there becomes empty. */
function formerValues(environment) {
	const entries = Object.entries(environment).map(([name, value]) => {
		const unset = name === "NIX_USER_CONF_FILES" ? value.slice(value.indexOf(":") + 1) : "";
		return [name, process.env[name] ?? unset];
	});
	return Object.fromEntries(entries);
}
// packages/setup-action/src/format-status.ts
/** The job summary of a job that had no agent, in Markdown: why. */
function formatStatus({ result }) {
	return `### Flywheel cache\n\n| | |\n|---|---|\n| Status | ${`${result.status}: ${result.reason}`.replaceAll(/\s+/g, " ").replaceAll(/[|<>&`[\]]/g, (it) => `&#${it.charCodeAt(0)};`)} |\n`;
}
// packages/setup-action/src/run-post.ts
/** Beyond the drain's own limit: it has to stop the agent and to remove the session. */
const GRACE_MS = 15e3;
const KEEP_TIMEOUT_MS = 12e4;
/** The post part: waits for the uploads, ends the agent, leaves nothing behind, and says what the cache did. */
async function runPost(bundle) {
	const state = readPostState();
	await finishEntry(() => state?.failOnError === true, async () => {
		if (state === void 0) return;
		for (const [name, value] of Object.entries(state.formerEnvironment)) exportVariable(name, value);
		const drained = await drain(state, bundle);
		for (const cache of state.kept) await save(cache);
		await summarize(state, drained);
		const compiled = compileCache(process.env);
		if (compiled !== void 0) await rm(compiled, {
			recursive: true,
			force: true
		});
	});
}
async function drain(state, bundle) {
	const { session } = state.result;
	if (session === void 0) return void 0;
	const { drainTimeoutSeconds } = state;
	startGroup("Waiting for the uploads");
	let drained;
	try {
		drained = parseDrainResult(await runFlywheel({
			bundle,
			words: [...[
				"drain",
				"--session",
				session,
				"--timeout",
				`${drainTimeoutSeconds}s`
			], ...["--json", "--end"]],
			timeoutMs: drainTimeoutSeconds * 1e3 + GRACE_MS,
			onLine: (line) => info(line)
		}));
	} finally {
		endGroup();
	}
	const { left, failed, reason } = drained.report;
	const unpushed = `${left + failed} store paths were not pushed${reason === void 0 ? "." : `: ${reason}`}`;
	const causes = drained.summary?.warnings ?? [];
	const said = causes.length > 0 ? causes.join(" ") : unpushed;
	if (causes.length > 0 || left + failed > 0) {
		if (state.failOnError) setFailed(`fail-on-error is set. ${said}`);
		else warning(said);
	}
	return drained;
}
async function save(cache) {
	try {
		if (await timeBox("Saving it", KEEP_TIMEOUT_MS, saveKept(cache))) info(`${cache.kind}: kept as ${cache.key}`);
	} catch (error) {
		info(`${cache.kind}: nothing is kept in the forge's cache: ${describeError(error)}`);
	}
}
async function summarize(state, drained) {
	if (state.result.isExisting) return;
	try {
		await summary.addRaw(drained?.markdown ?? formatStatus(state)).write();
	} catch (error) {
		info(`There is no job summary: ${describeError(error)}`);
	}
}
// actions/setup-bazel-cache/src/entries.ts
const BUNDLE = fileURLToPath(new URL("flywheel.mjs", import.meta.url));
const main = () => runMain(["bazel"], BUNDLE);
const post = () => runPost(BUNDLE);
export { main, post };
