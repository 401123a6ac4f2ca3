import { CacheError } from "@glorious/core";
import type { CallReceiver } from "@glorious/grpc";
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
import type { CallContext } from "./call-context.ts";
import { methodPath } from "./method-path.ts";
import { receiveOne } from "./receivers.ts";

/** `build.bazel.remote.execution.v2.ActionCache`. */
export function actionCacheCalls(context: CallContext): [path: string, receiver: CallReceiver][] {
  // Read and forgotten within a turn.
  const digests = new DigestList();

  const get = receiveOne((call, message) => {
    const request = parseGetActionResultRequest(message, digests);
    const { instanceName: instance } = request;
    if (isPlain(request)) {
      const access = context.recall(call, instance, "pull");
      const result = access?.scope.recallAction(digests, 0);
      if (access !== undefined && result !== undefined) {
        access.counters.actionHits += 1;
        call.respond(result);
        return;
      }
    }
    const key = digests.key(0);
    context.run(call, async () => {
      const { scope, counters } =
        context.recall(call, instance, "pull") ?? (await context.open(call, instance, "pull"));
      const found = await getActionResult(scope, key, request);
      if (found.kind === "hit") {
        counters.actionHits += 1;
        call.respond(found.result);
        return;
      }
      counters[found.reason === "absent" ? "actionsAbsent" : "actionsIncomplete"] += 1;
      throw missing(key, found.reason);
    });
  });

  const update = receiveOne((call, message) => {
    const { instanceName, actionResult } = parseUpdateActionResultRequest(message, digests);
    const key = digests.key(0);
    context.run(call, async () => {
      const { scope, counters } = await context.open(call, instanceName, "push");
      call.respond(await updateActionResult(scope, key, actionResult));
      counters.actionsStored += 1;
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
