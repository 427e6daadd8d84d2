/** SIGTERM and SIGINT as a promise and as an AbortSignal. A second signal ends the process at once. */
export function untilSignal(): { promise: Promise<void>; signal: AbortSignal } {
  const controller = new AbortController();
  const promise = new Promise<void>((resolve) => {
    const stop = () => {
      if (controller.signal.aborted) process.exit(130);
      controller.abort(new Error("stopped by a signal"));
      resolve();
    };
    process.on("SIGTERM", stop);
    process.on("SIGINT", stop);
  });
  return { promise, signal: controller.signal };
}

/** For a start that a signal cuts short, while it waits for the Lease for example: that is a stop as asked for, and no failure. */
export function endedBySignal(signal: AbortSignal): (error: unknown) => never {
  return (error) => {
    if (signal.aborted) process.exit(0);
    throw error;
  };
}
