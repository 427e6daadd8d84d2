/** A random LoRA adapter in the registry, as if another federation had published it: version 0 of a benchmark's federation comes from it. */
import { join } from "node:path";
import { OciRepository } from "../../operator/publish/oci.ts";
import { formatAdapterConfig } from "../../operator/publish/peft.ts";
import { pushAdapter } from "../../operator/publish/push-adapter.ts";
import { writeSafetensors } from "../../operator/publish/safetensors.ts";
import type { Registry } from "../integration/registry.ts";

export const MODEL = { name: "example/bench", revision: "main", digest: `sha256:${"0".repeat(64)}` };
export const MODULES = ["q_proj", "v_proj"];

/** layers × 2 modules × (A and B) tensors of rank × features values. */
export interface AdapterSize {
  rank: number;
  features: number;
  layers: number;
}

/** @returns its reference, for adapter.initialFrom */
export async function pushInitial(
  registry: Registry,
  folder: string,
  { rank, features, layers }: AdapterSize,
): Promise<string> {
  const weights = join(folder, "initial.safetensors");
  const tensors = Array.from({ length: layers }, (_, layer) =>
    MODULES.flatMap((module) => {
      const name = `base_model.model.model.layers.${layer}.self_attn.${module}`;
      return [
        { name: `${name}.lora_A.weight`, shape: [rank, features] },
        { name: `${name}.lora_B.weight`, shape: [features, rank] },
      ];
    }),
  ).flat();
  await writeSafetensors(weights, tensors, new Map([["format", "pt"]]), () => [
    Float32Array.from({ length: rank * features }, () => Math.random() - 0.5),
  ]);
  const config = formatAdapterConfig({ baseModel: MODEL, rank, alpha: 2 * rank, targetModules: MODULES });
  const repository = new OciRepository({ registry: registry.host, repository: "bench/initial", plainHttp: true });
  const lineage = { federation: "initial", version: 0, baseModel: MODEL };
  return (await pushAdapter(repository, { weights, config, rank }, lineage)).reference;
}
