/**
 * Values written as strings: durations, decimal numbers, digests, Kubernetes quantities, instants (api.md: no floats).
 * Holds: whatever a schema here accepts, its converter understands.
 * Does not: know the clock; an instant is only text or milliseconds.
 */
import { z } from "zod";
import { cel, matching } from "./cel.ts";

const DURATION = /^([0-9]{1,6}h([0-9]{1,6}m)?([0-9]{1,6}s)?|[0-9]{1,6}m([0-9]{1,6}s)?|[0-9]{1,6}s)$/;
const UNIT_MS = { h: 3_600_000, m: 60_000, s: 1000 };
/** 30 days. Longer than any round is meant to be: a deadline that nobody will see is a typing error. */
const LONGEST_HOURS = 720;

export const duration = z
  .string()
  .max(16)
  .regex(DURATION)
  .meta({
    pattern: undefined,
    ...cel([
      `self.matches(r'${DURATION.source}') && duration(self) >= duration('1s') && duration(self) <= duration('${LONGEST_HOURS}h')`,
      `must be a duration from 1s to ${LONGEST_HOURS}h, such as 15m, 2h or 1h30m`,
    ]),
  });

/** Like `duration`, and "0s" for none. */
export const pause = z
  .string()
  .max(16)
  .regex(DURATION)
  .meta({
    pattern: undefined,
    ...cel([
      `self.matches(r'${DURATION.source}') && duration(self) <= duration('${LONGEST_HOURS}h')`,
      `must be a duration from 0s to ${LONGEST_HOURS}h, such as 0s, 15m or 24h`,
    ]),
  });

/** @param text what `duration` or `pause` accepts. @returns milliseconds. @throws RangeError for anything else */
export function durationMs(text: string): number {
  if (!DURATION.test(text)) throw new RangeError(`not a duration: ${JSON.stringify(text)}; write 15m, 2h or 1h30m`);
  const parts = [...text.matchAll(/([0-9]+)([hms])/g)];
  return parts.reduce((sum, [, amount, unit]) => sum + Number(amount) * UNIT_MS[unit as keyof typeof UNIT_MS], 0);
}

const DECIMAL = /^(0|[1-9][0-9]{0,8})(\.[0-9]{1,12})?(e-?[0-9]{1,2})?$/;

/** A decimal number above zero, as a string: floats do not survive every JSON and YAML writer. */
export const positiveDecimal = z
  .string()
  .max(32)
  .regex(DECIMAL)
  .meta({
    pattern: undefined,
    ...cel([
      `self.matches(r'${DECIMAL.source}') && double(self) > 0.0`,
      'must be a decimal number above zero in quotes, such as "1.0" or "5e-5"',
    ]),
  });

/** A decimal number of zero or more, as a string. */
export const nonNegativeDecimal = z
  .string()
  .max(32)
  .regex(DECIMAL)
  .meta(matching(DECIMAL, 'must be a decimal number of zero or more in quotes, such as "0" or "0.01"'));

/** A share of a whole, above zero and at most one, as a string. */
export const fraction = z
  .string()
  .max(32)
  .regex(DECIMAL)
  .meta({
    pattern: undefined,
    ...cel([
      `self.matches(r'${DECIMAL.source}') && double(self) > 0.0 && double(self) <= 1.0`,
      'must be a decimal number above zero and at most one in quotes, such as "0.5"',
    ]),
  });

/** @param text what `positiveDecimal`, `nonNegativeDecimal` or `fraction` accepts. @throws RangeError for anything else */
export function decimalNumber(text: string): number {
  if (!DECIMAL.test(text)) throw new RangeError(`not a decimal number: ${JSON.stringify(text)}`);
  return Number(text);
}

const SHA256 = /^sha256:[0-9a-f]{64}$/;

export const sha256Digest = z
  .string()
  .max(71)
  .regex(SHA256)
  .meta(matching(SHA256, "must be sha256: and 64 lower-case hexadecimal digits"));

const QUANTITY = /^[0-9]{1,12}(\.[0-9]{1,9})?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$/;

/** An amount of memory or CPU in Kubernetes' notation. */
export const quantity = z
  .string()
  .max(32)
  .regex(QUANTITY)
  .meta({
    pattern: undefined,
    ...cel([
      "isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))",
      'must be an amount above zero in the notation of Kubernetes, such as "16Gi", "500m" or "4"',
    ]),
  });

/** RFC 3339; the API server checks it. Rondo writes milliseconds, metav1.Condition has whole seconds. */
export const instant = z.string().max(40).meta({ format: "date-time" });
