/**
 * PEFT's adapter_config.json in the one form that PEFT, vLLM and llama.cpp's converter all read the same way, and the
 * tensor table of a LoRA adapter: uniform rank, bias "none", no DoRA, no rsLoRA, no per-module patterns.
 * Holds: the same settings give the same bytes; a table has complete A/B pairs of one rank, names ascending by bytes.
 * Does not: read files, or know rounds.
 */
import { z } from "zod";
import { compareNames, type TensorSpec } from "./safetensors-header.ts";

export interface AdapterSettings {
  baseModel: { name: string; revision: string };
  rank: number;
  alpha: number;
  targetModules: readonly string[];
}

export class PeftFault extends Error {
  readonly code: "ConfigInvalid" | "ConfigUnsupported" | "NotLora" | "PairIncomplete" | "RankDiffers" | "ShapeInvalid";
  constructor(code: PeftFault["code"], message: string) {
    super(message);
    this.name = "PeftFault";
    this.code = code;
  }
}

/** adapter_config.json as bytes: sorted keys, as PEFT itself writes them. */
export function formatAdapterConfig(settings: AdapterSettings): Uint8Array {
  const config = {
    alpha_pattern: {},
    base_model_name_or_path: settings.baseModel.name,
    bias: "none",
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    lora_alpha: settings.alpha,
    lora_dropout: 0,
    modules_to_save: null,
    peft_type: "LORA",
    r: settings.rank,
    rank_pattern: {},
    revision: settings.baseModel.revision,
    target_modules: [...settings.targetModules].sort(compareNames),
    task_type: "CAUSAL_LM",
    use_dora: false,
    use_rslora: false,
  };
  return Buffer.from(`${JSON.stringify(config, null, 2)}\n`);
}

/** What decides the meaning of the weights; the rest is for training or for humans, and other PEFT versions add keys. */
const configSchema = z.object({
  peft_type: z.literal("LORA"),
  r: z.int().min(1).max(1024),
  lora_alpha: z.number().positive().max(65_536),
  target_modules: z.array(z.string().min(1).max(128)).min(1).max(64),
  base_model_name_or_path: z.string().max(256).nullish(),
  revision: z.string().max(128).nullish(),
  bias: z.literal("none").default("none"),
  modules_to_save: z.array(z.string()).max(0).nullish(),
  use_dora: z.literal(false).default(false),
  use_rslora: z.literal(false).default(false),
  fan_in_fan_out: z.literal(false).default(false),
  rank_pattern: z.record(z.string(), z.unknown()).default({}),
  alpha_pattern: z.record(z.string(), z.unknown()).default({}),
});

/**
 * Reads a foreign adapter_config.json (adapter.initialFrom).
 * @throws PeftFault "ConfigInvalid" (no JSON) | "ConfigUnsupported" (names the field)
 */
export function parseAdapterConfig(bytes: Uint8Array): AdapterSettings {
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch {
    throw new PeftFault("ConfigInvalid", "adapter_config.json is not JSON");
  }
  const parsed = configSchema.safeParse(json);
  if (!parsed.success) {
    const field = parsed.error.issues[0]?.path.join(".") || "its top level";
    throw new PeftFault("ConfigUnsupported", `adapter_config.json: ${field} is not what Rondo can continue from`);
  }
  const config = parsed.data;
  const pattern = (["rank_pattern", "alpha_pattern"] as const).find((key) => Object.keys(config[key]).length > 0);
  if (pattern !== undefined) {
    throw new PeftFault(
      "ConfigUnsupported",
      `adapter_config.json: ${pattern} is set; Rondo needs one rank and alpha for all`,
    );
  }
  return {
    baseModel: { name: config.base_model_name_or_path ?? "", revision: config.revision ?? "main" },
    rank: config.r,
    alpha: config.lora_alpha,
    targetModules: [...config.target_modules].sort(compareNames),
  };
}

export interface AdapterTensor {
  name: string;
  shape: [number, number];
}

const LORA_NAME = /^(base_model\.model\..+)\.lora_([AB])\.weight$/;

/**
 * The tensor table of a LoRA adapter, ascending by the bytes of the names: A is (rank, in), B is (out, rank).
 * @throws PeftFault: a tensor that is no lora_A/lora_B weight, half a pair, another rank, a shape that is not two sizes
 */
export function tensorTable(tensors: readonly TensorSpec[], rank: number): AdapterTensor[] {
  const halves = new Map<string, Set<string>>();
  const table = tensors.map(({ name, shape }): AdapterTensor => {
    const [, module, half] = LORA_NAME.exec(name) ?? [];
    if (module === undefined || half === undefined) {
      throw new PeftFault("NotLora", `tensor ${JSON.stringify(name)} is no lora_A or lora_B weight`);
    }
    const [rows, columns] = shape;
    if (shape.length !== 2 || !rows || !columns) {
      throw new PeftFault(
        "ShapeInvalid",
        `tensor ${name} has shape ${shape.join("×")}; LoRA weights have two sizes above 0`,
      );
    }
    const found = half === "A" ? rows : columns;
    if (found !== rank) throw new PeftFault("RankDiffers", `tensor ${name} has rank ${found} and not ${rank}`);
    halves.set(module, (halves.get(module) ?? new Set()).add(half));
    return { name, shape: [rows, columns] };
  });
  if (table.length === 0) throw new PeftFault("NotLora", "the adapter has no tensors");
  for (const [module, found] of halves) {
    if (found.size !== 2) throw new PeftFault("PairIncomplete", `${module} has only one of lora_A and lora_B`);
  }
  return table.sort((a, b) => compareNames(a.name, b.name));
}
