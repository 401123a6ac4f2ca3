/** The symbol that ends a string and must never be sent (RFC 7541, section 5.2). */
export const END_OF_STRING = 256;

/**
 * Code lengths of RFC 7541, appendix B, by symbol. The code is canonical: codes of one length ascend with
 * their symbols and continue from the shorter ones, so lengths are all there is to know: one digit of base 36 each.
 */
const CODE_LENGTHS = Uint8Array.from(
  "dnsssssssoussussssssssusssssssss6aacd68baa8b8666555666666678f6ca" +
    "d67777777777777777777777878djde6f56565666577666567655677777fbeds" +
    "kmkkmmmnmnnnnnonoomnonnnnlmnmnnomlkmmnnlnmmolmnnllmlnmnnkmmmnmmn" +
    "qqkjmnmpqqqrrqopjlqrrqrollqqsrrrkoklmllnmmppooqnqrqqrrrrrsrrrrrq" +
    "u",
  (digit) => Number.parseInt(digit, 36),
);

/** The code of each symbol, right-aligned, with its length in bits. */
export const HUFFMAN_CODE: { readonly codes: Uint32Array; readonly lengths: Uint8Array } = {
  codes: assignCodes(),
  lengths: CODE_LENGTHS,
};

function assignCodes(): Uint32Array {
  const symbols = Array.from(CODE_LENGTHS.keys()).sort(
    (a, b) => (CODE_LENGTHS[a] ?? 0) - (CODE_LENGTHS[b] ?? 0) || a - b,
  );
  const codes = new Uint32Array(CODE_LENGTHS.length);
  let code = 0;
  let previous = 0;
  for (const symbol of symbols) {
    const length = CODE_LENGTHS[symbol] ?? 0;
    if (previous > 0) code = (code + 1) * 2 ** (length - previous);
    codes[symbol] = code;
    previous = length;
  }
  return codes;
}
