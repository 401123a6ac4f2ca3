import { type CallReceiver, GRPC_STATUS, keepStatus, type ServerCall } from "@glorious/grpc";
import {
  ActionCache,
  type DigestKey,
  DigestList,
  type GetActionResultFields,
  parseGetActionResultRequest,
  parseUpdateActionResultRequest,
  methodPath,
} from "@glorious/reapi";

import {
  type ActionMiss,
  countMiss,
  getActionResult,
  updateActionResult,
} from "../services/action-cache.ts";
import type { InstanceAccess } from "../services/instance-access.ts";
import type { CallContext } from "./call-context.ts";
import { receiveOne } from "./receivers.ts";

const { NOT_FOUND } = GRPC_STATUS;
const IS_ABSENT = keepStatus(NOT_FOUND, "There is no ActionResult of this action");
const IS_INCOMPLETE = keepStatus(NOT_FOUND, "Something that the ActionResult needs is not there");

/** `build.bazel.remote.execution.v2.ActionCache`. */
export function actionCacheCalls(context: CallContext): [path: string, receiver: CallReceiver][] {
  // Read and forgotten within a turn.
  const digests = new DigestList();

  const answerHit = (call: ServerCall, access: InstanceAccess, result: Buffer): void => {
    access.counters.actionHits += 1;
    const run = context.invocationOf(call, access);
    if (run !== undefined) run.actionHits += 1;
    call.respond(result);
  };

  const answerMiss = (
    call: ServerCall,
    access: InstanceAccess,
    { key, reason }: { readonly key: DigestKey; readonly reason: ActionMiss },
  ): void => {
    countMiss(access, key, reason);
    const run = context.invocationOf(call, access);
    if (run !== undefined) run.actionMisses += 1;
    call.finishWith(reason === "absent" ? IS_ABSENT : IS_INCOMPLETE);
  };

  const get = receiveOne((call, message) => {
    const request = parseGetActionResultRequest(message, digests);
    const { instanceName: instance } = request;
    const known = context.recall(call, instance, "pull");
    if (known !== undefined) {
      const found = known.scope.lookUpAction(digests, 0);
      if (found?.kind === "hit" && isPlain(request)) {
        answerHit(call, known, found.result);
        return;
      }
      if (found?.kind === "absent" || found?.kind === "incomplete") {
        answerMiss(call, known, { key: digests.keyView(0), reason: found.kind });
        return;
      }
    }
    const key = digests.key(0);
    context.run(call, async () => {
      const access = known ?? (await context.open(call, instance, "pull"));
      const found = await getActionResult(access.scope, key, request);
      if (found.kind === "hit") answerHit(call, access, found.result);
      else answerMiss(call, access, { key, reason: found.reason });
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
