/**
 * Blocks of ring elements in 128-bit lanes; AssemblyScript, built by scripts/build-kernels.ts (../kernel.ts has the contract).
 *
 *   add, subtract   64 bytes a step: 4 × v128, then 16, then single elements
 *   quantise        4 values a step, float64 inside:
 *                     f32x4  x0 x1 x2 x3  ──promote──▶  f64x2 x0 x1 │ f64x2 x2 x3     two halves, the same steps
 *                     clip, scale, floor, draw < rest, clamp                          lane 0 sums squares of even places, lane 1 of odd
 *                     i32x2 q0 q1 │ i32x2 q2 q3  ──shuffle──▶  i32x4 (u32: 16 bytes) ──narrow──▶ i16x4 (u16: 8 bytes)
 *
 * pmin and pmax are one instruction where min and max are five; they differ only for NaN and the sign of zero, neither of which is stored.
 * Holds: the same operations on the same float64 in the same order as ../scalar.ts, hence the same bytes.
 */

/** 2^-32: a draw as a number in [0, 1). */
const DRAW: f64 = 1.0 / 4294967296.0;

export function addU32(target: usize, source: usize, byteLength: i32): void {
  const end = target + byteLength;
  while (target + 64 <= end) {
    v128.store(target, i32x4.add(v128.load(target), v128.load(source)));
    v128.store(target, i32x4.add(v128.load(target, 16), v128.load(source, 16)), 16);
    v128.store(target, i32x4.add(v128.load(target, 32), v128.load(source, 32)), 32);
    v128.store(target, i32x4.add(v128.load(target, 48), v128.load(source, 48)), 48);
    target += 64;
    source += 64;
  }
  while (target < end) {
    store<u32>(target, load<u32>(target) + load<u32>(source));
    target += 4;
    source += 4;
  }
}

export function subtractU32(target: usize, source: usize, byteLength: i32): void {
  const end = target + byteLength;
  while (target + 64 <= end) {
    v128.store(target, i32x4.sub(v128.load(target), v128.load(source)));
    v128.store(target, i32x4.sub(v128.load(target, 16), v128.load(source, 16)), 16);
    v128.store(target, i32x4.sub(v128.load(target, 32), v128.load(source, 32)), 32);
    v128.store(target, i32x4.sub(v128.load(target, 48), v128.load(source, 48)), 48);
    target += 64;
    source += 64;
  }
  while (target < end) {
    store<u32>(target, load<u32>(target) - load<u32>(source));
    target += 4;
    source += 4;
  }
}

export function addU16(target: usize, source: usize, byteLength: i32): void {
  const end = target + byteLength;
  while (target + 64 <= end) {
    v128.store(target, i16x8.add(v128.load(target), v128.load(source)));
    v128.store(target, i16x8.add(v128.load(target, 16), v128.load(source, 16)), 16);
    v128.store(target, i16x8.add(v128.load(target, 32), v128.load(source, 32)), 32);
    v128.store(target, i16x8.add(v128.load(target, 48), v128.load(source, 48)), 48);
    target += 64;
    source += 64;
  }
  while (target < end) {
    store<u16>(target, load<u16>(target) + load<u16>(source));
    target += 2;
    source += 2;
  }
}

export function subtractU16(target: usize, source: usize, byteLength: i32): void {
  const end = target + byteLength;
  while (target + 64 <= end) {
    v128.store(target, i16x8.sub(v128.load(target), v128.load(source)));
    v128.store(target, i16x8.sub(v128.load(target, 16), v128.load(source, 16)), 16);
    v128.store(target, i16x8.sub(v128.load(target, 32), v128.load(source, 32)), 32);
    v128.store(target, i16x8.sub(v128.load(target, 48), v128.load(source, 48)), 48);
    target += 64;
    source += 64;
  }
  while (target < end) {
    store<u16>(target, load<u16>(target) - load<u16>(source));
    target += 2;
    source += 2;
  }
}

/** The tally is three f64: saturated, squares, trace. */
export function quantise(
  target: usize,
  values: usize,
  draws: usize,
  tally: usize,
  count: i32,
  elementBytes: i32,
  factor: f64,
  clip: f64,
  gain: f64,
  largest: f64,
): void {
  const factors = f64x2.splat(factor);
  const clips = f64x2.splat(clip);
  const negativeClips = f64x2.splat(-clip);
  const gains = f64x2.splat(gain);
  const largests = f64x2.splat(largest);
  const smallests = f64x2.splat(-largest);
  const ones = f64x2.splat(1.0);
  const drawUnits = f64x2.splat(DRAW);
  let squares = f64x2.splat(0);
  let saturated = i64x2.splat(0);
  let trace = f32x4.splat(0);

  let i = 0;
  for (; i + 4 <= count; i += 4) {
    const floats = v128.load(values);
    const words = v128.load(draws);
    // NaN once a value is not finite, and then for ever.
    trace = f32x4.add(trace, f32x4.mul(floats, f32x4.splat(0)));

    let x = f64x2.mul(f64x2.promote_low_f32x4(floats), factors);
    // abs(x) > C is all ones, −1, in its lane.
    saturated = i64x2.sub(saturated, f64x2.gt(f64x2.abs(x), clips));
    x = f64x2.pmax(f64x2.pmin(x, clips), negativeClips);
    squares = f64x2.add(squares, f64x2.mul(x, x));
    x = f64x2.mul(x, gains);
    let below = f64x2.floor(x);
    let draw = f64x2.mul(f64x2.convert_low_i32x4_u(words), drawUnits);
    let q = f64x2.add(below, v128.and(f64x2.lt(draw, f64x2.sub(x, below)), ones));
    const low = i32x4.trunc_sat_f64x2_s_zero(f64x2.pmax(f64x2.pmin(q, largests), smallests));

    x = f64x2.mul(f64x2.promote_low_f32x4(v128.shuffle<i64>(floats, floats, 1, 0)), factors);
    saturated = i64x2.sub(saturated, f64x2.gt(f64x2.abs(x), clips));
    x = f64x2.pmax(f64x2.pmin(x, clips), negativeClips);
    squares = f64x2.add(squares, f64x2.mul(x, x));
    x = f64x2.mul(x, gains);
    below = f64x2.floor(x);
    draw = f64x2.mul(f64x2.convert_low_i32x4_u(v128.shuffle<i64>(words, words, 1, 0)), drawUnits);
    q = f64x2.add(below, v128.and(f64x2.lt(draw, f64x2.sub(x, below)), ones));
    const high = i32x4.trunc_sat_f64x2_s_zero(f64x2.pmax(f64x2.pmin(q, largests), smallests));

    const four = v128.shuffle<i64>(low, high, 0, 2);
    if (elementBytes === 4) {
      v128.store(target, four);
      target += 16;
    } else {
      // |q| < 2^15: narrowing does not saturate.
      v128.store64_lane(target, i16x8.narrow_i32x4_s(four, four), 0);
      target += 8;
    }
    values += 16;
    draws += 16;
  }

  let evenSquares = f64x2.extract_lane(squares, 0);
  let oddSquares = f64x2.extract_lane(squares, 1);
  let saturatedCount = i64x2.extract_lane(saturated, 0) + i64x2.extract_lane(saturated, 1);
  let traceSum: f64 =
    <f64>f32x4.extract_lane(trace, 0) +
    <f64>f32x4.extract_lane(trace, 1) +
    <f64>f32x4.extract_lane(trace, 2) +
    <f64>f32x4.extract_lane(trace, 3);
  for (; i < count; i++) {
    const value = <f64>load<f32>(values);
    traceSum += value * 0;
    let x = value * factor;
    if (abs(x) > clip) saturatedCount++;
    x = max(min(x, clip), -clip);
    if (i & 1) oddSquares += x * x;
    else evenSquares += x * x;
    x *= gain;
    const below = floor(x);
    const up: f64 = <f64>load<u32>(draws) * DRAW < x - below ? 1 : 0;
    const q = <i32>max(min(below + up, largest), -largest);
    if (elementBytes === 4) store<i32>(target, q);
    else store<i16>(target, <i16>q);
    target += elementBytes;
    values += 4;
    draws += 4;
  }
  store<f64>(tally, load<f64>(tally) + <f64>saturatedCount);
  store<f64>(tally, load<f64>(tally, 8) + (evenSquares + oddSquares), 8);
  store<f64>(tally, load<f64>(tally, 16) + traceSum, 16);
}
