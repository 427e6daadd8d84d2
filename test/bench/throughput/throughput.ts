/** Tokens a second of the trainer against a plain PyTorch and PEFT loop of the same settings (throughput.py measures both in turns). */
import { join } from "node:path";
import { cacheDir } from "../../cluster/layout.ts";
import type { Benchmark } from "../main.ts";
import { pythonJson } from "../python.ts";
import { atLeast, median, round } from "../report.ts";

interface Measured {
  dtype: string;
  threads: number;
  /** Tokens a second of each turn. */
  rondo: number[];
  plain: number[];
}

export const run: Benchmark = async () => {
  const folders = [join(cacheDir, "models/smollm2-135m-instruct"), join(cacheDir, "data/computing")];
  const { dtype, threads, rondo, plain } = await pythonJson<Measured>(
    [join(import.meta.dirname, "throughput.py"), ...folders, "cpu"],
    "throughput",
  );
  const figure = { name: "training, median of 5 turns", value: round(median(rondo), 0), unit: "tokens/s" };
  return {
    results: [atLeast(figure, "plain PyTorch and PEFT loop", round(median(plain), 0), 0.95)],
    notes: [
      `SmolLM2-135M-Instruct in ${dtype} on the processor, ${threads} threads; LoRA rank 8 on q_proj and v_proj; 12 steps of 4 examples of at most 64 tokens a turn.`,
      "Tokens: all of the examples, prompts too. The same model object, rows, batches, type and optimiser for both, in turns.",
    ],
  };
};
