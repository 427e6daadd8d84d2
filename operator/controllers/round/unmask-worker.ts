/** A helper thread of one round's ring sum: takes masks off pieces of a vector that it shares with the others, and nothing else. */
import { isMainThread, parentPort } from "node:worker_threads";
import { simdKernel } from "../../secagg/kernels/simd.ts";
import type { UnmaskDone, UnmaskTask } from "./secure-sum-messages.ts";
import { unmaskPieces } from "./secure-sum-pieces.ts";

if (isMainThread || !parentPort) throw new Error("unmask-worker.ts runs in a worker thread only");
const port = parentPort;
const kernel = simdKernel();

port.on("message", (task: UnmaskTask) => {
  unmaskPieces(task, kernel);
  port.postMessage({ kind: "done" } satisfies UnmaskDone);
});
