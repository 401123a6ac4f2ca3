import { isGrpc, mayPush } from "@glorious/cache-client";
import { GRPC_STATUS } from "@glorious/grpc";

import { describeRefusal } from "../../doctor/describe-refusal.ts";
import { failure, ok, skipped, type Verdict, warning } from "../../doctor/finding.ts";
import { reasonOf, valueOf } from "../../doctor/probe.ts";
import { optionOf, placeOf, renewCommand, tokenOf, useCommand } from "../facts.ts";
import type { Snapshot, Target } from "../snapshot.ts";

/** The server answers over gRPC, and lets Bazel in. */
export function checkGrpc(snapshot: Snapshot): Verdict {
  const { faces, target } = snapshot;
  const { grpc, http } = faces;
  const verdict = ((): Verdict => {
    if (grpc.state === "skipped") return skipped(grpc.reason);
    if (grpc.state === "failed") {
      const hasHttp = http.state === "known";
      return failure(
        `the cache does not answer over gRPC: ${grpc.problem}`,
        hasHttp
          ? "It answers over HTTP/1.1: something between lets no gRPC through."
          : "It accepts the connection, but does not speak as a cache does.",
        hasHttp ? useCommand(target, " --http") : `curl -v -m 10 ${target.server}healthz`,
      );
    }
    const { status, message } = grpc.value;
    if (status === GRPC_STATUS.OK) return ok("the cache answers over gRPC and lets Bazel in");
    const cause = message === "" ? "It does not say why." : `It says: ${message}.`;
    switch (status) {
      case GRPC_STATUS.UNAUTHENTICATED:
        return unauthenticated(snapshot, "UNAUTHENTICATED", cause);
      case GRPC_STATUS.PERMISSION_DENIED:
        return forbidden(target, "PERMISSION_DENIED", cause);
      case GRPC_STATUS.NOT_FOUND:
        return absent(target, "NOT_FOUND", cause);
      case GRPC_STATUS.UNIMPLEMENTED:
        return failure(
          "what answers over gRPC is no Bazel cache (UNIMPLEMENTED)",
          "The address is another service's, or Bazel is switched off on the server.",
          `flywheel view info ${target.view}${target.serverFlag}`,
        );
      default:
        return failure(
          `the cache answers status ${status} over gRPC`,
          cause,
          `curl -v -m 10 ${target.server}readyz`,
        );
    }
  })();
  return isGrpc(target.remoteCache) ? verdict : unused(verdict);
}

/** The server answers over HTTP/1.1, and lets Bazel in. */
export function checkHttp(snapshot: Snapshot): Verdict {
  const { faces, target } = snapshot;
  const { http } = faces;
  const verdict = ((): Verdict => {
    if (http.state === "skipped") return skipped(http.reason);
    if (http.state === "failed") {
      return failure(
        `the cache does not answer over HTTP/1.1: ${http.problem}`,
        "It accepts the connection, but does not speak as a cache does.",
        `curl -v -m 10 ${target.server}healthz`,
      );
    }
    const { status, body } = http.value;
    if (status === 404 && isMiss(body))
      return ok("the cache answers over HTTP/1.1 and lets Bazel in");
    const said = describeRefusal(body);
    const cause = said === undefined ? `It answered ${status}.` : `It says: ${said}.`;
    switch (status) {
      case 401:
        return unauthenticated(snapshot, "401", cause);
      case 403:
        return forbidden(target, "403", cause);
      case 404:
        return absent(target, "404", cause);
      default:
        return failure(
          `the cache answers ${status} to what it cannot have`,
          cause,
          `curl -v -m 10 ${target.server}readyz`,
        );
    }
  })();
  return isGrpc(target.remoteCache) ? unused(verdict) : verdict;
}

/** What the server offers to this caller. */
export function checkCapabilities(snapshot: Snapshot): Verdict {
  const { faces, target, credential, bazel } = snapshot;
  if (!isGrpc(target.remoteCache)) return skipped("over HTTP/1.1 there is nothing to ask for");
  if (faces.grpc.state !== "known") return skipped(reasonOf(faces.grpc));
  const { capabilities } = faces.grpc.value;
  if (capabilities === undefined) return skipped("the cache refuses Bazel");
  if (!capabilities.hasSha256) {
    return failure(
      "the cache knows no SHA-256",
      "Bazel then builds without it.",
      `flywheel view info ${target.view}${target.serverFlag}`,
    );
  }
  const compression = optionOf(snapshot, "remote_cache_compression");
  if (!capabilities.hasZstd && compression?.value === "true") {
    return failure(
      `the cache knows no zstd, which ${placeOf(compression)} wants`,
      "Bazel then builds without the cache.",
      useCommand(target),
    );
  }
  const uploads = optionOf(snapshot, "remote_upload_local_results")?.value !== "false";
  const mayWrite = mayPush(tokenOf(credential), target.view);
  if (capabilities.mayUpdate) return ok("SHA-256, zstd, results may be written");
  if (mayWrite) {
    return warning(
      "the server takes no results now, though the token may push",
      "The view or its tenant is at its limit, or the server is told to take none. Builds read on.",
      `flywheel view stats ${target.view}${target.serverFlag}`,
    );
  }
  if (!uploads) return ok("SHA-256, zstd, for reading: the token gives no push permission");
  const isOld = (valueOf(bazel.release)?.major ?? 7) < 7;
  return (isOld ? failure : warning)(
    "results may not be written: the token gives no push permission",
    isOld
      ? "Bazel 4 ends the build, unless its rc file says --noremote_upload_local_results."
      : "Bazel says so in every build, until its rc file says --noremote_upload_local_results.",
    useCommand(target),
  );
}

function unauthenticated({ credential, target }: Snapshot, status: string, cause: string): Verdict {
  return tokenOf(credential) === undefined
    ? failure(
        `the server wants a token, and Bazel sends none (${status})`,
        cause,
        useCommand(target),
      )
    : failure(`the server refuses Bazel's token (${status})`, cause, renewCommand(target));
}

function forbidden(target: Target, status: string, cause: string): Verdict {
  return failure(
    `Bazel's token is good, but not for ${target.instanceName} (${status})`,
    cause,
    renewCommand(target),
  );
}

function absent(target: Target, status: string, cause: string): Verdict {
  return failure(
    `there is no view ${target.view} on the server (${status})`,
    cause,
    `flywheel view list${target.serverFlag}`,
  );
}

/** A face that Bazel does not use keeps it from nothing. */
function unused({ severity, message }: Verdict): Verdict {
  return severity === "ok"
    ? ok(`${message}, but it uses the other`)
    : skipped(`not used; ${message}`);
}

/** A result that is not there, as against a view that is not. */
function isMiss(body: string): boolean {
  return !/^There is no (cache|view) /i.test(describeRefusal(body) ?? "");
}
