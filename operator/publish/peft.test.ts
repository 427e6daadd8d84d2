/** adapter_config.json and the tensor table: one form out, foreign forms in or refused with the field's name. */
import { describe, expect, test } from "vitest";
import { formatAdapterConfig, parseAdapterConfig, tensorTable } from "./peft.ts";

const settings = {
  baseModel: { name: "org/model", revision: "main" },
  rank: 8,
  alpha: 16,
  targetModules: ["q_proj", "v_proj"],
};
const config = (change: object) =>
  Buffer.from(JSON.stringify({ ...JSON.parse(formatAdapterConfig(settings).toString()), ...change }));

describe("adapter_config.json", () => {
  test("is the same whatever the order of the modules, and is read back", () => {
    const shuffled = formatAdapterConfig({ ...settings, targetModules: ["v_proj", "q_proj"] });
    expect(shuffled).toEqual(formatAdapterConfig(settings));
    expect(parseAdapterConfig(shuffled)).toEqual(settings);
  });
  test("of a newer PEFT, with keys we do not know, is read", () => {
    expect(parseAdapterConfig(config({ eva_config: null, qalora_group_size: 16 }))).toEqual(settings);
  });
  test.each([
    { change: { use_dora: true }, field: "use_dora" },
    { change: { use_rslora: true }, field: "use_rslora" },
    { change: { bias: "all" }, field: "bias" },
    { change: { modules_to_save: ["lm_head"] }, field: "modules_to_save" },
    { change: { rank_pattern: { q_proj: 4 } }, field: "rank_pattern" },
    { change: { peft_type: "IA3" }, field: "peft_type" },
    { change: { target_modules: "all-linear" }, field: "target_modules" },
    { change: { r: 0 }, field: "r" },
  ])("with another $field is refused by that name", ({ change, field }) => {
    expect(() => parseAdapterConfig(config(change))).toThrow(`adapter_config.json: ${field} is`);
  });
  test("that is no JSON is refused", () => {
    expect(() => parseAdapterConfig(Buffer.from("r: 8"))).toThrow("not JSON");
  });
});

describe("the tensor table", () => {
  const a = {
    name: "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
    dtype: "F32",
    shape: [8, 64],
  } as const;
  const b = {
    name: "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight",
    dtype: "F32",
    shape: [64, 8],
  } as const;
  const earlier = { ...a, name: a.name.replace("q_proj", "k_proj") };
  const earlierB = { ...b, name: b.name.replace("q_proj", "k_proj") };

  test("is ascending by name", () => {
    const names = tensorTable([b, earlierB, a, earlier], 8).map(({ name }) => name);
    expect(names).toEqual([earlier.name, earlierB.name, a.name, b.name]);
  });
  test.each([
    { says: "half a pair", tensors: [a, b, earlier], code: "PairIncomplete" },
    { says: "another rank", tensors: [a, { ...b, shape: [64, 4] }], code: "RankDiffers" },
    { says: "a vector", tensors: [{ ...a, shape: [8] }, b], code: "ShapeInvalid" },
    { says: "an empty side", tensors: [{ ...a, shape: [8, 0] }, b], code: "ShapeInvalid" },
    {
      says: "a DoRA magnitude",
      tensors: [a, b, { ...a, name: "base_model.model.x.lora_magnitude_vector" }],
      code: "NotLora",
    },
    { says: "nothing", tensors: [], code: "NotLora" },
  ])("is refused with $says: $code", ({ tensors, code }) => {
    expect(() => tensorTable(tensors, 8)).toThrow(expect.objectContaining({ code }));
  });
});
