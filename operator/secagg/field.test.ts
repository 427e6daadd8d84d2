/** GF(2^16): the tables against multiplication as one does it by hand, and the field's laws. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { inverse, multiply } from "./field.ts";

const element = fc.integer({ min: 0, max: 0xffff });

/** Carry-less product, reduced by x^16 + x^12 + x^3 + x + 1. */
function byHand(a: number, b: number): number {
  let product = 0n;
  for (let bit = 0; bit < 16; bit++) if ((b >> bit) & 1) product ^= BigInt(a) << BigInt(bit);
  for (let bit = 31; bit >= 16; bit--) if ((product >> BigInt(bit)) & 1n) product ^= 0x1100bn << BigInt(bit - 16);
  return Number(product);
}

test("products are those of polynomials modulo 0x1100B", () => {
  const agree = fc.property(element, element, (a, b) => multiply(a, b) === byHand(a, b));
  fc.assert(agree, { numRuns: 2000 });
});

test("everything but 0 has an inverse", () => {
  const wrong = [];
  for (let a = 1; a <= 0xffff; a++) if (multiply(a, inverse(a)) !== 1) wrong.push(a);
  expect(wrong).toEqual([]);
});

test("multiplication distributes over XOR", () => {
  const distributes = fc.property(
    element,
    element,
    element,
    (a, b, c) => multiply(a ^ b, c) === (multiply(a, c) ^ multiply(b, c)),
  );
  fc.assert(distributes, { numRuns: 1000 });
});
