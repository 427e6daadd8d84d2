/** Shamir over GF(2^16): the published symbol, then that any t of n give the secret back, and that a share alone says nothing. */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { hex, sha256, u32, utf8 } from "./bytes.ts";
import { combine, evaluateAt, type Share, split } from "./shares.ts";

const { gf16 } = JSON.parse(readFileSync(new URL("../../test/vectors/secagg_kdf.json", import.meta.url), "utf8"));

/** Bytes that look random and are the same in every run. */
function seeded(seed: string): (length: number) => Uint8Array {
  let block = 0;
  return (length) => sha256(Uint8Array.of(...utf8(seed), ...u32(block++))).subarray(0, length);
}
/** 16 times the same symbol. */
const symbols = (value: number) => Uint8Array.from({ length: 32 }, (_, i) => (i % 2 === 0 ? value >> 8 : value & 0xff));

test("secagg_kdf.json: 0x1234 with the coefficients 0xabcd and 0x0f0f", () => {
  const coefficients = [symbols(0xabcd), symbols(0x0f0f)];
  const shares = split(symbols(0x1234), 3, [1, 2, 3], () => coefficients.shift()!);
  expect(shares.map(({ share }) => hex(share))).toEqual(gf16.shares.map((value: number) => hex(symbols(value))));
  expect(hex(combine(shares))).toBe(hex(symbols(0x1234)));
});

test("any t shares give the secret back", () => {
  const cohort = fc.integer({ min: 1, max: 128 }).chain((n) =>
    fc.record({
      n: fc.constant(n),
      threshold: fc.integer({ min: 1, max: n }),
      secret: fc.uint8Array({ minLength: 32, maxLength: 32 }),
      seed: fc.string(),
      order: fc.shuffledSubarray(
        Array.from({ length: n }, (_, i) => i),
        { minLength: n },
      ),
    }),
  );
  fc.assert(
    fc.property(cohort, ({ n, threshold, secret, seed, order }) => {
      const shares = split(secret, threshold, xsUpTo(n), seeded(seed));
      const some = order.slice(0, threshold).map((at) => shares[at]!);
      return hex(combine(some)) === hex(secret) && hex(evaluateAt(some, n)) === hex(shares[n - 1]!.share);
    }),
    { numRuns: 200 },
  );
});

test("t − 1 shares do not give it back", () => {
  const shares = split(symbols(0x1234), 4, xsUpTo(5), seeded("hiding"));
  expect(hex(combine(shares.slice(0, 3)))).not.toBe(hex(symbols(0x1234)));
});

test("every bit of a share is even over secrets that differ", () => {
  const ones = new Float64Array(256);
  const draws = 2000;
  for (let draw = 0; draw < draws; draw++) {
    const [, share] = split(symbols(0), 2, [1, 2], seeded(`even ${draw}`));
    for (let bit = 0; bit < 256; bit++) ones[bit]! += (share!.share[bit >> 3]! >> (bit & 7)) & 1;
  }
  // Five standard deviations of a fair coin, over 256 of them.
  const bound = 5 * Math.sqrt(draws / 4);
  expect([...ones].filter((count) => Math.abs(count - draws / 2) > bound)).toEqual([]);
});

test("a changed share changes the secret, and shows off the polynomial of the others", () => {
  const shares = split(symbols(7), 3, xsUpTo(5), seeded("off"));
  const wrong = shares.map((share, at) => (at === 1 ? { ...share, share: symbols(1) } : share));
  expect(hex(combine(wrong.slice(0, 3)))).not.toBe(hex(symbols(7)));
  const sound = [shares[0]!, shares[2]!, shares[3]!];
  expect(hex(evaluateAt(sound, 2))).not.toBe(hex(wrong[1]!.share));
  expect(hex(evaluateAt(sound, 5))).toBe(hex(shares[4]!.share));
});

test.each([
  { says: "the index 0, whose share would be the secret", xs: [0, 1, 2], threshold: 2 },
  { says: "an index twice", xs: [1, 1, 2], threshold: 2 },
  { says: "an index beyond the field", xs: [1, 2, 65_536], threshold: 2 },
  { says: "a threshold above the number of shares", xs: [1, 2, 3], threshold: 4 },
  { says: "a threshold of nobody", xs: [1, 2, 3], threshold: 0 },
])("refuses $says", ({ xs, threshold }) => {
  expect(() => split(symbols(1), threshold, xs, seeded("refused"))).toThrow(RangeError);
});

test("refuses to combine nothing, the same index twice, or a share of another length", () => {
  expect(() => combine([])).toThrow(RangeError);
  expect(() => combine([share(1), share(1)])).toThrow(RangeError);
  expect(() => combine([{ x: 1, share: new Uint8Array(31) }])).toThrow(RangeError);
  expect(() => split(new Uint8Array(33), 1, [1], seeded("long"))).toThrow(RangeError);
});

const share = (x: number): Share => ({ x, share: symbols(x) });
const xsUpTo = (n: number) => Array.from({ length: n }, (_, i) => i + 1);
