import { describe } from "vitest";

import { describeAdoption } from "./adoption-contract.ts";
import { describeCollection } from "./collection-contract.ts";
import { describeCommons } from "./commons-contract.ts";
import { describeConcurrency } from "./concurrency-contract.ts";
import { describeHistories } from "./histories-contract.ts";
import type { OpenIndex } from "./index-setup.ts";
import { describeObjects } from "./objects-contract.ts";
import { describePartUploads } from "./part-uploads-contract.ts";
import { describePaths } from "./paths-contract.ts";
import { describeProvenance } from "./provenance-contract.ts";
import { describeQuarantine } from "./quarantine-contract.ts";
import { describeRecords } from "./records-contract.ts";
import { describeUpstreams } from "./upstreams-contract.ts";
import { describeViews } from "./views-contract.ts";

/** How {@link describeCacheIndex} runs. */
export interface IndexContractOptions {
  /** How many random histories are tried. Default: 50. */
  readonly runs?: number;
}

/** What every implementation of `CacheIndex` must do. Each test opens an index of its own. */
export function describeCacheIndex(
  name: string,
  open: OpenIndex,
  options: IndexContractOptions = {},
): void {
  describe(`a cache index: ${name}`, () => {
    describe("views", () => {
      describeViews(open);
    });
    describe("paths", () => {
      describePaths(open);
    });
    describe("holdings and objects", () => {
      describeObjects(open);
    });
    describe("documents, tokens, expiry", () => {
      describeRecords(open);
    });
    describe("access times, pins, collection", () => {
      describeCollection(open);
    });
    describe("verification and quarantine", () => {
      describeQuarantine(open);
    });
    describe("uploads in parts", () => {
      describePartUploads(open);
    });
    describe("provenance and revocations", () => {
      describeProvenance(open);
    });
    describe("adoption", () => {
      describeAdoption(open);
    });
    describe("upstreams", () => {
      describeUpstreams(open);
    });
    describe("the commons", () => {
      describeCommons(open);
    });
    describe("any history", () => {
      describeHistories(open, options.runs ?? 50);
    });
    describe("many at once", () => {
      describeConcurrency(open);
    });
  });
}
