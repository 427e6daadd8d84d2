/** Whether an adapter's tensors are those of the target modules that a Federation names. Pure. */

/**
 * A module is meant by `q_proj` or `self_attn.q_proj` as PEFT means it: by the end of its path.
 * @param tensors  names such as base_model.model.layers.0.self_attn.q_proj.lora_A.weight
 * @returns a sentence, or undefined when they fit
 */
export function shapeProblem(
  tensors: ReadonlyArray<{ name: string }>,
  targetModules: readonly string[],
): string | undefined {
  const modules = [...new Set(tensors.map(({ name }) => name.replace(/\.lora_[AB]\.weight$/, "")))];
  const means = (target: string, module: string) => module === target || module.endsWith(`.${target}`);
  const absent = targetModules.filter((target) => !modules.some((module) => means(target, module)));
  if (absent.length > 0) return `the adapter has no weights for targetModules ${absent.join(", ")}`;
  const more = modules.find((module) => !targetModules.some((target) => means(target, module)));
  return more && `the adapter has weights for ${more}, which targetModules does not name`;
}
