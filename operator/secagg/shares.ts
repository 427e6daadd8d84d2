/**
 * Shamir's secret sharing over GF(2^16) (field.ts; secure-aggregation.md §3).
 * Holds: a secret is 16 big-endian symbols, each the constant term of a polynomial of its own; a share is the 16 values at x, as big-endian.
 * Does not: say whether a combined secret is right (a commitment does).
 */
import { EXP, LOG, ORDER } from "./field.ts";

/** Of a secret and of each share. */
export const SHARE_BYTES = 32;
const SYMBOLS = SHARE_BYTES / 2;

/** The value of a dealer's polynomials at x, the receiver's idx. */
export interface Share {
  x: number;
  /** 32 bytes */
  share: Uint8Array;
}

/**
 * @param secret     32 bytes
 * @param threshold  how many shares give it back; fewer say nothing of it
 * @param xs         distinct, each in [1, 2^16)
 * @param random     gives that many bytes of a cryptographic source
 * @returns one share for each x, in their order
 */
export function split(
  secret: Uint8Array,
  threshold: number,
  xs: readonly number[],
  random: (length: number) => Uint8Array,
): Share[] {
  checkLength(secret);
  checkXs(xs);
  if (!Number.isInteger(threshold) || threshold < 1 || threshold > xs.length) {
    throw new RangeError(`${threshold} of ${xs.length} shares is no threshold`);
  }
  const coefficients = [symbolsOf(secret)];
  while (coefficients.length < threshold) coefficients.push(symbolsOf(random(SHARE_BYTES)));
  const shares = xs.map((x) => ({ x, share: bytesOf(horner(coefficients, x)) }));
  // The polynomials are the secret as well.
  for (const symbols of coefficients) symbols.fill(0);
  return shares;
}

/** The secret that these shares, exactly as many as they are, lie on a polynomial with. */
export const combine = (shares: readonly Share[]): Uint8Array => evaluateAt(shares, 0);

/**
 * The value at x of the polynomials of lowest degree through the shares: at 0 the secret; at another member's idx what its share
 * would have to be, which tells whose share is off.
 * @param shares  at least one, with distinct x
 */
export function evaluateAt(shares: readonly Share[], x: number): Uint8Array {
  if (shares.length === 0) throw new RangeError("no share, no secret");
  const xs = shares.map((share) => share.x);
  checkXs(xs);
  const sum = new Uint16Array(SYMBOLS);
  shares.forEach(({ share }, i) => {
    checkLength(share);
    addMultiple(sum, symbolsOf(share), lagrange(xs, i, x));
  });
  return bytesOf(sum);
}

/** Horner's rule for all symbols. x ≠ 0. */
function horner(coefficients: readonly Uint16Array[], x: number): Uint16Array {
  const logX = LOG[x]!;
  const value = Uint16Array.from(coefficients.at(-1)!);
  for (let power = coefficients.length - 2; power >= 0; power--) {
    const coefficient = coefficients[power]!;
    for (let symbol = 0; symbol < SYMBOLS; symbol++) {
      const before = value[symbol]!;
      value[symbol] = (before === 0 ? 0 : EXP[LOG[before]! + logX]!) ^ coefficient[symbol]!;
    }
  }
  return value;
}

/** Π (x − x_j)/(x_i − x_j) over j ≠ i; subtraction is XOR. */
function lagrange(xs: readonly number[], i: number, x: number): number {
  let log = 0;
  for (let j = 0; j < xs.length; j++) {
    if (j === i) continue;
    const above = x ^ xs[j]!;
    if (above === 0) return 0;
    log += LOG[above]! + ORDER - LOG[xs[i]! ^ xs[j]!]!;
  }
  return EXP[log % ORDER]!;
}

function addMultiple(sum: Uint16Array, symbols: Uint16Array, factor: number): void {
  if (factor === 0) return;
  const logFactor = LOG[factor]!;
  for (let symbol = 0; symbol < SYMBOLS; symbol++) {
    const value = symbols[symbol]!;
    if (value !== 0) sum[symbol]! ^= EXP[LOG[value]! + logFactor]!;
  }
}

function symbolsOf(bytes: Uint8Array): Uint16Array {
  checkLength(bytes);
  return Uint16Array.from({ length: SYMBOLS }, (_, symbol) => (bytes[2 * symbol]! << 8) | bytes[2 * symbol + 1]!);
}

function bytesOf(symbols: Uint16Array): Uint8Array {
  const bytes = new Uint8Array(SHARE_BYTES);
  symbols.forEach((value, symbol) => {
    bytes[2 * symbol] = value >> 8;
    bytes[2 * symbol + 1] = value & 0xff;
  });
  return bytes;
}

function checkLength(bytes: Uint8Array): void {
  if (bytes.length !== SHARE_BYTES)
    throw new RangeError(`a secret or share has ${SHARE_BYTES} bytes, not ${bytes.length}`);
}

/** The same x twice would divide by zero, and the share at 0 is the secret itself. */
function checkXs(xs: readonly number[]): void {
  const strange = xs.find((x) => !Number.isInteger(x) || x < 1 || x > ORDER);
  if (strange !== undefined) throw new RangeError(`${strange} is no index of a share`);
  if (new Set(xs).size !== xs.length) throw new RangeError("the same index holds two shares");
}
