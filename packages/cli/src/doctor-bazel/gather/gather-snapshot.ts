import { readFile } from "node:fs/promises";

import {
  askBazelRelease,
  type BazelRelease,
  isGrpc,
  toHttpUrl,
  mayPush,
} from "@glorious/cache-client";

import { findOption, readRcText } from "../../bazel-config/rc-file.ts";
import type { CliContext } from "../../cli-context.ts";
import { gatherNetwork } from "../../doctor/gather-network.ts";
import { openHttpSession } from "../../doctor/http-session.ts";
import { attempt, known, notTried, type Probe, valueOf } from "../../doctor/probe.ts";
import { authorizationOf, tokenOf } from "../facts.ts";
import type { Snapshot, TripFacts, ViewFacts } from "../snapshot.ts";
import { askGrpc, askHttp } from "./ask-faces.ts";
import { gatherCredential } from "./gather-credential.ts";
import { gatherRc } from "./gather-rc.ts";
import { createGrpcFace, createHttpFace, gatherTrip } from "./gather-trip.ts";
import { openGrpcSession } from "./grpc-session.ts";
import { choicesOf, planWantedRc } from "./wanted-rc.ts";

/** What {@link gatherSnapshot} is asked to look at. */
export interface Examination {
  /** With a trailing slash. */
  readonly server: string;
  readonly view: string;
  readonly serverFlag: string;
  /** The user's own token, to ask the server what it offers. Secret. */
  readonly token: string | undefined;
  readonly bazel: string;
  /** `undefined`: Bazel is asked. */
  readonly release: BazelRelease | undefined;
  /** How long any single step may take. */
  readonly timeoutMs: number;
}

/** Looks at everything once: Bazel, its files, the network, the server. Leaves a small blob and a result in the cache. */
export async function gatherSnapshot(
  examination: Examination,
  context: CliContext,
): Promise<Snapshot> {
  const { server, view, timeoutMs } = examination;
  const { signal } = context;
  const [release, rc, viewFacts] = await Promise.all([
    findRelease(examination, context),
    gatherRc(context),
    askView(examination, signal),
  ]);
  const options = rc.reading.options;
  const written = rc.ownRc === undefined ? options : readRcText(rc.ownRc, rc.ownRcPath);
  const offered = valueOf(viewFacts);
  const remoteCache =
    nonEmpty(findOption(written, "remote_cache")?.value) ??
    offered?.grpc ??
    server.replace(/^http/, "grpc").replace(/\/$/, "");
  const isHttp = !isGrpc(remoteCache);
  const instanceName = isHttp
    ? decodeURIComponent(toHttpUrl(remoteCache).pathname.replace(/^\/|\/$/g, ""))
    : (nonEmpty(findOption(written, "remote_instance_name")?.value) ?? view);
  const credential = await gatherCredential(
    { remoteCache, options, release: valueOf(release) },
    context,
  );
  const authorization = authorizationOf(credential);
  const wanted = planWantedRc(
    {
      ...{ rc, release, view: viewFacts, remoteCache, instanceName },
      // A helper that finds none at the moment is no reason to write another file.
      token: tokenOf(credential) ?? examination.token,
    },
    { view, context },
  );

  const caFile = nonEmpty(findOption(options, "tls_certificate")?.value);
  const ca =
    caFile === undefined ? undefined : await readFile(caFile, "utf8").catch(() => undefined);
  const url = toHttpUrl(remoteCache);
  // Bazel heeds no proxy from the environment on its way to a cache.
  const network = await gatherNetwork({ url, timeoutMs, env: {}, ca, caFile });
  const isReachable = network.connection.state === "known" && network.tls.state !== "failed";
  const unreachable = notTried("the server cannot be reached");

  using http = openHttpSession({ timeoutMs, ca, signal, nowMs: () => context.nowMs() });
  using grpc = isReachable
    ? openGrpcSession({
        url: isHttp ? toHttpUrl(offered?.grpc ?? url.origin.replace(/^http/, "grpc")) : url,
        timeoutMs,
        ca,
        authorization,
        signal,
      })
    : undefined;
  const httpBase = isHttp
    ? remoteCache.replace(/\/+$/, "")
    : `${offered?.http ?? url.origin + `/${view}`}${instanceName.slice(view.length)}`;
  const faces = {
    grpc: grpc === undefined ? unreachable : await attempt(() => askGrpc(grpc, instanceName)),
    http: isReachable ? await attempt(() => askHttp(http, httpBase, authorization)) : unreachable,
  };
  const answers = isHttp ? faces.http.state === "known" : valueOf(faces.grpc)?.status === 0;
  const face =
    isHttp || grpc === undefined
      ? createHttpFace(http, httpBase, authorization)
      : createGrpcFace(grpc, instanceName);
  const trip: TripFacts = answers
    ? await gatherTrip(
        face,
        reasonNotToWrite({
          hasUploads: findOption(options, "remote_upload_local_results")?.value !== "false",
          mayWrite: mayPush(tokenOf(credential), view),
          mayUpdate: isHttp || valueOf(faces.grpc)?.capabilities?.mayUpdate === true,
        }),
      )
    : { miss: refused(), blob: refused(), actionResult: refused() };
  return {
    nowMs: context.nowMs(),
    target: {
      ...{ server, view, serverFlag: examination.serverFlag, remoteCache, instanceName },
      ...choicesOf(rc.ownRc === undefined ? [] : written, { view, token: tokenOf(credential) }),
    },
    bazel: { command: examination.bazel, release },
    rc: { ...rc, wanted },
    view: viewFacts,
    credential,
    network,
    faces,
    trip,
  };
}

function refused(): Probe<never> {
  return notTried("the cache lets nobody in");
}

function findRelease(
  { bazel, release }: Examination,
  { env, workingDirectory, signal }: CliContext,
): Promise<Probe<BazelRelease>> {
  if (release !== undefined) return Promise.resolve(known(release));
  return attempt(() => askBazelRelease(bazel, { env, cwd: workingDirectory, signal }));
}

async function askView(
  { server, view, token, timeoutMs }: Examination,
  signal: AbortSignal,
): Promise<Probe<ViewFacts>> {
  const { openCache } = await import("@glorious/cache-client");
  return await attempt(async () => {
    const retry = { maxAttempts: 1 };
    await using cache = await openCache({
      ...{ server, view, token, signal, retry },
      idleTimeoutMs: timeoutMs,
    });
    const { isPublic = false, flywheel } = cache.config;
    return { isPublic, grpc: flywheel?.bazel?.grpc, http: flywheel?.bazel?.http };
  });
}

function reasonNotToWrite(facts: {
  readonly hasUploads: boolean;
  readonly mayWrite: boolean;
  readonly mayUpdate: boolean;
}): string | undefined {
  if (!facts.hasUploads) return "Bazel is told to write nothing";
  if (!facts.mayWrite) return "the token gives no push permission";
  return facts.mayUpdate ? undefined : "the server takes no results now";
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === "" ? undefined : text;
}
