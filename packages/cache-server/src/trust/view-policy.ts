import type { CommonsPolicy } from "../commons/agreement.ts";

/** What the operator's policy says about views; a part of it that the gate asks at every read. */
export interface ViewPolicy {
  /** Another number whenever an answer may have changed. */
  readonly version: number;
  /** What holds for a view, by its full name; for an overlay, ask with its base's. */
  settingsOf(viewName: string): ViewPolicySettings;
  /** The quotas that a tenant's views count to, its own first; none for a tenant that the policy does not know. */
  quotasOf(tenant: string | undefined): readonly QuotaGroup[];
  /** The view that fills itself with what tenants agree on; without it there is none. */
  readonly commons?: CommonsPolicy | undefined;
}

export interface ViewPolicySettings {
  /** Full names of the shared views behind this one, in the order of reading. */
  readonly reads: readonly string[];
  /** What is not said is as the server's settings have it. */
  readonly overlays: {
    readonly quotaBytes: number | undefined;
    readonly retentionSeconds: number | undefined;
  };
}

/** A tenant's quotas, and the tenants whose views count to them: itself and those below it. */
export interface QuotaGroup {
  readonly tenants: readonly (string | undefined)[];
  /** `undefined`: no limit. */
  readonly trustedBytes?: number | undefined;
  readonly overlayBytes?: number | undefined;
}

/** Where no policy is set no view has shared views behind it. */
export const NO_VIEW_POLICY: ViewPolicy = {
  version: 0,
  settingsOf: () => ({
    reads: [],
    overlays: { quotaBytes: undefined, retentionSeconds: undefined },
  }),
  quotasOf: () => [],
};
