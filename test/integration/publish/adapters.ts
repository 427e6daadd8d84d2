/** Small LoRA adapters on disk, for tests of publishing. */
import { randomFillSync } from "node:crypto";
import { join } from "node:path";
import { formatAdapterConfig } from "../../../operator/publish/peft.ts";
import type { AdapterFiles } from "../../../operator/publish/push-adapter.ts";
import { writeSafetensors } from "../../../operator/publish/safetensors.ts";

export const RANK = 4;

/** An adapter of two modules whose q_proj weighs `inFeatures` × 16 bytes; random values, so that no two are equal. */
export async function makeAdapter(
  folder: string,
  inFeatures = 64,
  name = "adapter_model.safetensors",
): Promise<AdapterFiles> {
  const weights = join(folder, name);
  const prefix = "base_model.model.model.layers.0.self_attn";
  const tensors = ["q_proj", "v_proj"].flatMap((module) => [
    { name: `${prefix}.${module}.lora_A.weight`, shape: [RANK, module === "q_proj" ? inFeatures : 64] },
    { name: `${prefix}.${module}.lora_B.weight`, shape: [64, RANK] },
  ]);
  await writeSafetensors(weights, tensors, new Map([["format", "pt"]]), (tensor) => {
    const values = new Float32Array((tensor.end - tensor.begin) / 4);
    randomFillSync(values);
    return [values];
  });
  const config = formatAdapterConfig({
    baseModel: { name: "example/tiny", revision: "main" },
    rank: RANK,
    alpha: 8,
    targetModules: ["q_proj", "v_proj"],
  });
  return { weights, config, rank: RANK };
}

export const LINEAGE = {
  federation: "notes",
  version: 3,
  round: "notes-r3",
  parentDigest: `sha256:${"1".repeat(64)}`,
  baseModel: { name: "example/tiny", revision: "main", digest: `sha256:${"2".repeat(64)}` },
};
