import { writeFileSync } from "node:fs";
import process from "node:process";

/** Writes what a vitest run counted, over all projects, to the file `npm test` names. */
// oxlint-disable-next-line import/no-default-export -- vitest loads a reporter by its default export
export default class CountsReporter {
  onTestRunEnd(testModules, unhandledErrors) {
    const counts = { passed: 0, failed: unhandledErrors.length, skipped: [] };
    for (const testModule of testModules) {
      counts.failed += testModule.errors().length;
      for (const suite of testModule.children.allSuites()) counts.failed += suite.errors().length;
      for (const test of testModule.children.allTests()) count(counts, test);
    }
    writeFileSync(process.env.GLORIOUS_COUNTS_FILE, JSON.stringify(counts));
  }
}

function count(counts, test) {
  const { state, note } = test.result();
  if (state === "passed") counts.passed += 1;
  else if (state === "failed") counts.failed += 1;
  else counts.skipped.push({ title: test.fullName, reason: note });
}
