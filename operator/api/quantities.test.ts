import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decimalNumber, duration, durationMs, positiveDecimal, quantity, sha256Digest } from "./quantities.ts";

describe("durations", () => {
  test.each([
    ["15m", 900_000],
    ["2h", 7_200_000],
    ["1h30m", 5_400_000],
    ["1h0m5s", 3_605_000],
    ["45s", 45_000],
    ["90m", 5_400_000],
  ])("%s is %d ms", (text, ms) => {
    expect(duration.parse(text)).toBe(text);
    expect(durationMs(text)).toBe(ms);
  });

  test.each(["", "15", "m", "1m1h", "1.5h", "-1m", "1 h", "10ms", "2d"])("%j is refused", (text) => {
    expect(duration.safeParse(text).success).toBe(false);
    expect(() => durationMs(text)).toThrow(RangeError);
  });

  test("hours, minutes and seconds add up", () => {
    const part = fc.integer({ min: 0, max: 999_999 });
    fc.assert(
      fc.property(part, part, part, (h, m, s) => {
        expect(durationMs(`${h}h${m}m${s}s`)).toBe(((h * 60 + m) * 60 + s) * 1000);
      }),
    );
  });
});

describe("decimal strings", () => {
  test.each([
    ["1.0", 1],
    ["5e-5", 0.00005],
    ["0.25", 0.25],
    ["2e3", 2000],
  ])("%s is %d", (text, value) => {
    expect(positiveDecimal.parse(text)).toBe(text);
    expect(decimalNumber(text)).toBe(value);
  });

  test.each(["", "-1", "1,5", ".5", "01", "1e", "NaN", "Infinity", "0x1"])("%j is refused", (text) => {
    expect(positiveDecimal.safeParse(text).success).toBe(false);
    expect(() => decimalNumber(text)).toThrow(RangeError);
  });
});

test.each([
  ["16Gi", true],
  ["4", true],
  ["500m", true],
  ["1.5", true],
  ["16GB", false],
  ["", false],
])("the quantity %j is accepted: %s", (text, ok) => {
  expect(quantity.safeParse(text).success).toBe(ok);
});

test("a digest is sha256: and 64 lower-case digits", () => {
  expect(sha256Digest.safeParse(`sha256:${"a".repeat(64)}`).success).toBe(true);
  expect(sha256Digest.safeParse(`sha256:${"A".repeat(64)}`).success).toBe(false);
  expect(sha256Digest.safeParse(`sha256:${"a".repeat(63)}`).success).toBe(false);
});
