/** How long what failed for a reason that may pass is left alone before it is tried again. */
const LONGEST_PAUSE_MS = 15_000;

/** 1, 2, 4, 8, 15, 15 … seconds. @param tries  failures in a row */
export function pauseMs(tries: number): number {
  return Math.min(LONGEST_PAUSE_MS, 1000 * 2 ** Math.max(0, tries - 1));
}
