import type { Logger } from "@glorious/core";
import { quotasOf, type TrustPolicy, viewSettingsOf } from "@glorious/trust";

import type { CommonsPolicy } from "../commons/agreement.ts";
import type { CacheIndex } from "../index/cache-index.ts";
import { createView } from "../routes/attic-config.ts";
import { NO_VIEW_POLICY, type ViewPolicy } from "../trust/view-policy.ts";
import type { PolicyFile } from "./policy-file.ts";

/**
 * Makes the views that a policy names and that are not there yet. Those that are there stay as they are; where
 * their visibility is not the policy's, the log says so.
 */
export async function createPolicyViews(
  policy: TrustPolicy,
  {
    index,
    now,
    logger,
  }: { readonly index: CacheIndex; readonly now: () => number; readonly logger: Logger },
): Promise<void> {
  for (const { name, isPublic, quotaBytes } of policy.views.values()) {
    const existing = await index.findView(name);
    if (existing !== undefined) {
      if (existing.isPublic !== isPublic) {
        logger.warn("a view's visibility is not the policy's", {
          view: name,
          isPublic: existing.isPublic,
          policy: isPublic,
        });
      }
      continue;
    }
    await createView(
      { index, now },
      {
        name,
        isPublic,
        storeDir: "/nix/store",
        priority: 41,
        upstreamCacheKeyNames: ["cache.nixos.org-1"],
      },
    );
    if (quotaBytes !== undefined) await index.updateView(name, { maxSizeBytes: quotaBytes });
    logger.info("created a view that the policy names", { view: name });
  }
}

/** What the gate asks of the policy. */
export function toViewPolicy(file: PolicyFile): ViewPolicy {
  return {
    get version() {
      return file.version;
    },
    settingsOf: (viewName) =>
      viewSettingsOf(file.policy, viewName) ?? NO_VIEW_POLICY.settingsOf(viewName),
    quotasOf: (tenant) =>
      quotasOf(file.policy, tenant).map(({ name, trustedQuotaBytes, overlayQuotaBytes }) => ({
        tenants: withDescendants(file.policy, name),
        trustedBytes: trustedQuotaBytes,
        overlayBytes: overlayQuotaBytes,
      })),
    get commons() {
      return commonsOf(file.policy);
    },
  };
}

function commonsOf(policy: TrustPolicy): CommonsPolicy | undefined {
  const all = [...policy.views.values()];
  const commons = all.find(({ agreement }) => agreement !== undefined);
  if (commons?.agreement === undefined) return undefined;
  return {
    view: commons.name,
    tenants: commons.agreement.tenants,
    contributors: all
      .filter(({ contributes }) => contributes !== undefined)
      .map(({ name, tenant, contributes }) => ({
        view: name,
        tenant,
        voice: quotasOf(policy, tenant).at(-1)?.name ?? tenant ?? "",
        isContentAddressed: contributes === "content-addressed",
      })),
  };
}

/** A tenant and all those whose parent, or whose parent's parent, it is. */
function withDescendants(policy: TrustPolicy, name: string | undefined): (string | undefined)[] {
  if (name === undefined) return [undefined];
  const children = policy.tenants.filter(({ parent }) => parent === name);
  return [name, ...children.flatMap((child) => withDescendants(policy, child.name))];
}
