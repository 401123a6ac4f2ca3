import type { AdminClient, QuarantineList, ScrubReport } from "@glorious/cache-client";
import { CacheError, formatCount, formatSizeBytes, parseSizeBytes } from "@glorious/core";

import { openAdminClient } from "../admin-client.ts";
import { type CliContext, note, printLine } from "../cli-context.ts";
import { type Command, defineCommand, flag, value } from "../command.ts";
import { formatTable } from "../format-table.ts";
import { durationSeconds } from "../parse-number.ts";
import { runScrub } from "../run-scrub.ts";
import { chooseServer, SERVER_ENVIRONMENT, SERVER_OPTIONS } from "../server-options.ts";

export const command: Command = defineCommand({
  name: "scrub",
  summary: "Check every stored object, and name the bad ones",
  description: `Lets the server read what it stores and compare it with its hash. What is lost or damaged goes into
quarantine at once: it is not served any more, its paths count as absent, and a new push heals them. Prints what
is in quarantine and the paths that costs. The server goes on when you interrupt the command, and the command
goes on when the server is started anew. Bad blobs of Bazel are absent from then on, and the next build that
misses them stores them anew. Needs an administrator's token. Exit code 1 when something is bad.`,
  options: {
    ...SERVER_OPTIONS,
    maxAge: value("TIME", "Leave out what was checked within TIME, such as 1d", durationSeconds),
    bytesPerSecond: value(
      "SIZE",
      "How fast to read, such as 200MiB; default as the server is configured",
      parseSizeBytes,
    ),
    status: flag("Check nothing: show how far the server is, and what is in quarantine"),
    json: flag("Print one line of JSON"),
  },
  environment: SERVER_ENVIRONMENT,
  examples: [
    { comment: "Check everything", command: "flywheel scrub" },
    {
      comment: "Go on where an earlier one was interrupted",
      command: "flywheel scrub --max-age 1d",
    },
    { comment: "What is in quarantine, for a script", command: "flywheel scrub --status --json" },
  ],
  async run({ options }, context) {
    await using admin = await openAdminClient(await chooseServer(options, context), context);
    const pass = options.status
      ? await showState(admin, context)
      : await runScrub(admin, context, {
          maxAgeSeconds: options.maxAge,
          bytesPerSecond: options.bytesPerSecond,
        });
    const quarantine = await admin.listQuarantined();
    if (options.json) printLine(context, JSON.stringify({ pass, quarantine }));
    else printQuarantine(quarantine, context);
    const lostBlobs = pass?.bazel?.badTotal ?? 0;
    if (pass !== undefined) {
      if (!options.json) printBadBlobs(pass, context);
      describePass(pass, context);
    }
    if (quarantine.total > 0) {
      throw new CacheError(
        "CORRUPT",
        `${formatCount(quarantine.total, "stored object is", "stored objects are")} bad`,
        {
          hint: "Push the paths named above once more: that heals them. Then look after the disk.",
        },
      );
    }
    note(context, "Nothing is in quarantine.");
    if (lostBlobs > 0) {
      throw new CacheError(
        "CORRUPT",
        `${formatCount(lostBlobs, "Bazel blob or value was", "Bazel blobs or values were")} bad`,
        { hint: "The next builds that miss them store them anew. Look after the disk." },
      );
    }
  },
});

async function showState(
  admin: AdminClient,
  context: CliContext,
): Promise<ScrubReport | undefined> {
  const { pass, lastFullPassAt } = await admin.scrubState();
  note(
    context,
    lastFullPassAt === undefined
      ? "No scrub has gone through everything since the server was started."
      : `A scrub last went through everything at ${lastFullPassAt}.`,
  );
  return pass;
}

function describePass(pass: ScrubReport, context: CliContext): void {
  const { bazel } = pass;
  const scanned = pass.scanned + (bazel?.scanned ?? 0);
  const readBytes = pass.bytes + (bazel?.bytes ?? 0);
  const read = `${formatCount(scanned, "object")} read, ${formatSizeBytes(readBytes)}`;
  const percent = Math.floor(pass.fraction * 100);
  note(
    context,
    pass.state === "done"
      ? `Done: ${read}.`
      : `The scrub is ${pass.state} at ${percent} %: ${read}.`,
  );
  if (pass.restored > 0) {
    note(
      context,
      `${formatCount(pass.restored, "object is", "objects are")} good again, and served again.`,
    );
  }
  const unanswered = pass.unanswered + (bazel?.unanswered ?? 0);
  if (unanswered > 0) {
    note(
      context,
      `The server's disk could not tell about ${formatCount(unanswered, "object")}: see its log.`,
    );
  }
  const { files = 0, bytes = 0 } = pass.orphans ?? {};
  if (files > 0) {
    const what = formatCount(files, "file");
    note(
      context,
      `The store has ${what} (${formatSizeBytes(bytes)}) that the index does not know: see the server's log.`,
    );
  }
}

function printBadBlobs({ bazel }: ScrubReport, context: CliContext): void {
  if (bazel === undefined || bazel.badTotal === 0) return;
  const rows = bazel.bad.map(({ kind, name, reason, instances }) => {
    const more = instances.length > 1 ? ` and ${instances.length - 1} more` : "";
    return [`${instances[0] ?? ""}${more}`, kind, name, reason];
  });
  for (const line of formatTable(["INSTANCE", "KIND", "NAME", "REASON"], rows)) {
    printLine(context, line);
  }
  if (bazel.badTotal > rows.length) note(context, `${bazel.badTotal - rows.length} more of Bazel.`);
}

function printQuarantine({ total, objects }: QuarantineList, context: CliContext): void {
  if (total === 0) return;
  const rows = objects.flatMap(({ reason, quarantinedAt, paths, pathsTotal }) => {
    const named = paths.map(({ view, storePath }) => [view, storePath, quarantinedAt, reason]);
    const more = pathsTotal - paths.length;
    if (named.length === 0) return [["", "(a file no path needs)", quarantinedAt, reason]];
    return more > 0 ? [...named, ["", `(${more} more)`, quarantinedAt, reason]] : named;
  });
  for (const line of formatTable(["VIEW", "PATH", "SINCE", "REASON"], rows))
    printLine(context, line);
  if (total > objects.length) {
    note(
      context,
      `${formatCount(total - objects.length, "further object is", "further objects are")} in quarantine.`,
    );
  }
}
