/** PEFT itself reads what we publish: a folder pulled from the registry, loaded on a tiny Llama built in code. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { OciRepository } from "../../../operator/publish/oci.ts";
import { pullAdapter } from "../../../operator/publish/pull-adapter.ts";
import { pushAdapter } from "../../../operator/publish/push-adapter.ts";
import { startRegistry } from "../registry.ts";
import { LINEAGE, makeAdapter } from "./adapters.ts";

const python = join(process.env.RONDO_CACHE ?? join(homedir(), ".cache/rondo"), "venv/bin/python");

/** Loads the folder, and says what it found: module names, the scaling, and the worst difference to the file. */
const LOAD = `
import json, sys, torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM
base = LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=64, intermediate_size=64, num_hidden_layers=1,
                                    num_attention_heads=4, num_key_value_heads=4))
model = PeftModel.from_pretrained(base, sys.argv[1])
held = {n.replace(".default", ""): p for n, p in model.named_parameters() if "lora_" in n}
file = load_file(sys.argv[1] + "/adapter_model.safetensors")
worst = max(0.0 if torch.equal(held[n].nan_to_num(), file[n].nan_to_num()) else 1.0 for n in file)
layer = base.model.layers[0].self_attn.q_proj
print(json.dumps({"names": sorted(held) == sorted(file), "worst": worst, "scaling": layer.scaling["default"],
                  "active": model.active_adapter, "task": str(model.peft_config["default"].task_type)}))
`;

test("a pulled adapter loads in PEFT with our values and our scaling", async () => {
  expect(existsSync(python), `the Python environment is missing (${python}); run make setup`).toBe(true);
  const folder = await mkdtemp(join(tmpdir(), "rondo-peft-"));
  await using registry = await startRegistry();
  const repository = new OciRepository({ registry: registry.host, repository: "adapters/notes", plainHttp: true });
  const pushed = await pushAdapter(repository, await makeAdapter(folder), LINEAGE);
  const target = join(folder, "pulled");
  await pullAdapter(repository, pushed.digest, target, 1 << 20);
  const { stdout } = await promisify(execFile)(python, ["-c", LOAD, target], {
    env: { ...process.env, HF_HUB_OFFLINE: "1", TRANSFORMERS_OFFLINE: "1", PYTHONWARNINGS: "ignore" },
  });
  expect(JSON.parse(stdout.trim().split("\n").at(-1)!)).toEqual({
    names: true,
    worst: 0,
    scaling: 2, // alpha 8 / rank 4
    active: "default",
    task: "CAUSAL_LM",
  });
  await rm(folder, { recursive: true });
}, 180_000);
