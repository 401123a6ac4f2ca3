/** What the operator's policy says about views; a part of it that the gate asks at every read. */
export interface ViewPolicy {
  /** Another number whenever an answer may have changed. */
  readonly version: number;
  /** What holds for a view, by its full name; for an overlay, ask with its base's. */
  settingsOf(viewName: string): ViewPolicySettings;
  /** What all overlays of a tenant may hold together; `undefined` leaves it to the server's settings. */
  overlayQuotaOf(tenant: string | undefined): number | undefined;
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

/** Where no policy is set no view has shared views behind it. */
export const NO_VIEW_POLICY: ViewPolicy = {
  version: 0,
  settingsOf: () => ({
    reads: [],
    overlays: { quotaBytes: undefined, retentionSeconds: undefined },
  }),
  overlayQuotaOf: () => undefined,
};
