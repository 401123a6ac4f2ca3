import * as v from "valibot";

/** What the server did with a NAR. */
export interface NarReceipt {
  readonly kind: string;
  /** SHA-256 of the stored object, in hex. */
  readonly fileHash: string;
  readonly fileSize: number;
}

/** {@link NarReceipt} on the wire. */
export const Receipt: v.GenericSchema<NarReceipt> = v.object({
  kind: v.string(),
  fileHash: v.string(),
  fileSize: v.number(),
});
