import { CacheError } from "@glorious/core";
import type { CallReceiver, ServerCall } from "@glorious/grpc";
import {
  ActionCache,
  type DigestKey,
  DigestList,
  formatHash,
  type GetActionResultFields,
  parseGetActionResultRequest,
  parseUpdateActionResultRequest,
} from "@glorious/reapi";

import { getActionResult, updateActionResult } from "../services/action-cache.ts";
import type { InstanceAccess } from "../services/instance-access.ts";
import type { CallContext } from "./call-context.ts";
import { methodPath } from "./method-path.ts";
import { receiveOne } from "./receivers.ts";

/** `build.bazel.remote.execution.v2.ActionCache`. */
export function actionCacheCalls(context: CallContext): [path: string, receiver: CallReceiver][] {
  // Read and forgotten within a turn.
  const digests = new DigestList();

  const countHit = (call: ServerCall, access: InstanceAccess): void => {
    access.counters.actionHits += 1;
    const run = context.invocationOf(call, access);
    if (run !== undefined) run.actionHits += 1;
  };

  const get = receiveOne((call, message) => {
    const request = parseGetActionResultRequest(message, digests);
    const { instanceName: instance } = request;
    if (isPlain(request)) {
      const access = context.recall(call, instance, "pull");
      const result = access?.scope.recallAction(digests, 0);
      if (access !== undefined && result !== undefined) {
        countHit(call, access);
        call.respond(result);
        return;
      }
    }
    const key = digests.key(0);
    context.run(call, async () => {
      const access =
        context.recall(call, instance, "pull") ?? (await context.open(call, instance, "pull"));
      const found = await getActionResult(access.scope, key, request);
      if (found.kind === "hit") {
        countHit(call, access);
        call.respond(found.result);
        return;
      }
      const run = context.invocationOf(call, access);
      if (run !== undefined) run.actionMisses += 1;
      access.counters[found.reason === "absent" ? "actionsAbsent" : "actionsIncomplete"] += 1;
      throw missing(key, found.reason);
    });
  });

  const update = receiveOne((call, message) => {
    const { instanceName, actionResult } = parseUpdateActionResultRequest(message, digests);
    const key = digests.key(0);
    context.run(call, async () => {
      const access = await context.open(call, instanceName, "push");
      call.respond(await updateActionResult(access.scope, key, actionResult));
      access.counters.actionsStored += 1;
      const run = context.invocationOf(call, access);
      if (run !== undefined) run.actionsStored += 1;
    });
  });

  return [
    [methodPath(ActionCache, "getActionResult"), get],
    [methodPath(ActionCache, "updateActionResult"), update],
  ];
}

/** Whether the answer is what is stored, without any content put into it. */
function isPlain({
  inlineStdout,
  inlineStderr,
  inlineOutputFiles,
}: GetActionResultFields): boolean {
  return !inlineStdout && !inlineStderr && inlineOutputFiles.length === 0;
}

function missing(key: DigestKey, reason: string): CacheError {
  return new CacheError("NOT_FOUND", `The ActionResult of ${formatHash(key)} is ${reason}`);
}
