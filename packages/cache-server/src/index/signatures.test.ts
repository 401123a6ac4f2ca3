import fc from "fast-check";
import { expect, test } from "vitest";

import { mergeClientSignatures } from "./signatures.ts";

const signatures = fc.array(fc.stringMatching(/^[a-d]{1,3}:s$/), { maxLength: 30 });

test("merged signatures are sorted, distinct, few, and lose none that was kept", () => {
  fc.assert(
    fc.property(signatures, signatures, (first, second) => {
      const kept = mergeClientSignatures([], first);
      const merged = mergeClientSignatures(kept, second);

      expect(merged).toEqual([...new Set(merged)].sort());
      expect(merged.length).toBe(Math.min(16, new Set([...kept, ...second]).size));
      expect(merged).toEqual(expect.arrayContaining(kept));
      expect(mergeClientSignatures(merged, second)).toEqual(merged);
    }),
  );
});
