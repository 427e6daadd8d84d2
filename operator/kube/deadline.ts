/**
 * A signal that aborts at a time, or with another signal.
 * Why not AbortSignal.any([AbortSignal.timeout(ms), other]): in Node 24 each such signal stays on the list of a long-lived
 *   `other` (about 1 KiB each, measured), and the timer lives on after the call it was for.
 * Holds: after end() nothing of it is left.
 */
export type Deadline = {
  signal: AbortSignal;
  /** Aborted because the time was up. */
  isOver(): boolean;
  /** Starts the time anew. */
  restart(): void;
  end(): void;
};

/**
 * @param ms     time until it aborts
 * @param outer  aborts it as well
 * @param onOver called when the time is up, before the signal aborts
 */
export function startDeadline(ms: number, outer?: AbortSignal, onOver?: () => void): Deadline {
  const controller = new AbortController();
  let isOver = false;
  const timer = setTimeout(() => {
    isOver = true;
    onOver?.();
    controller.abort(new Error(`not within ${ms} ms`));
  }, ms);
  const abort = () => controller.abort(outer?.reason);
  if (outer?.aborted) abort();
  else outer?.addEventListener("abort", abort, { once: true });
  return {
    signal: controller.signal,
    isOver: () => isOver,
    restart: () => void timer.refresh(),
    end() {
      clearTimeout(timer);
      outer?.removeEventListener("abort", abort);
    },
  };
}
