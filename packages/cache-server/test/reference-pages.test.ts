import { readFile } from "node:fs/promises";

import { expect, test } from "vitest";

import { allRoutes } from "../src/routes/all-routes.ts";
import type { RouteServices } from "../src/routes/route-services.ts";
import { renderConfigurationPage, renderErrorsPage } from "./reference-pages.ts";

const REFERENCE = "../../../docs/reference";

test("docs/reference/configuration.md says what the settings are", async () => {
  await expect(renderConfigurationPage()).toMatchFileSnapshot(`${REFERENCE}/configuration.md`);
});

test("docs/reference/errors.md says what the codes are", async () => {
  await expect(renderErrorsPage()).toMatchFileSnapshot(`${REFERENCE}/errors.md`);
});

test("docs/reference/http-api.md has a row for every route and no other", async () => {
  const page = await readFile(new URL(`${REFERENCE}/http-api.md`, import.meta.url), "utf8");
  const documented = [
    ...page.matchAll(/^\| (GET|PUT|POST|PATCH|DELETE|PROPFIND|MKCOL) `([^`]+)` +\|/gm),
  ].map(([, method, pattern]) => `${method} ${pattern?.replaceAll(/\{(\w+\*?)\}/g, ":$1")}`);
  const limits = {} as RouteServices["limits"];
  const served = allRoutes({ limits } as RouteServices).map(
    (route) => `${route.method} ${route.pattern}`,
  );
  expect(documented.toSorted()).toEqual(served.toSorted());
});
