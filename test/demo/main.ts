/**
 * `make demo`: a federated LoRA round from nothing to a published adapter, on real local clusters (README.md).
 * Safe to repeat and to interrupt: clusters, charts and volumes are repaired, not made twice; each run starts a fresh federation.
 */
import { existsSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { down } from "../cluster/down.ts";
import { cacheDir, clusterSet, knownClusters, kubeconfigPath } from "../cluster/layout.ts";
import { missingRequirement } from "../cluster/requirements.ts";
import { type DemoOptions, demoOptions } from "./options.ts";
import { bold, dim, red, say, step } from "./progress.ts";
import { runDemo, volumesOf } from "./run.ts";

// A family of clusters of its own: `make clusters-up` and the tests have theirs.
process.env.RONDO_CLUSTERS_SET ??= "demo";

/** Tests run the demo beside one that a person started. */
const state = resolve(process.env.RONDO_DEMO_STATE ?? ".rondo/demo");

try {
  const options = demoOptions(process.argv.slice(2), Date.now());
  const missing = await missingRequirement();
  if (missing) {
    throw new Error(`${missing} docs/getting-started.md does the same on clusters that you already have, with Helm.`);
  }
  if (options.command === "down") await stop();
  else await start(options);
} catch (fault) {
  say(`\n${red("✗")} ${fault instanceof Error ? fault.message : String(fault)}`);
  process.exitCode = 1;
}

async function start(options: DemoOptions): Promise<void> {
  if (knownClusters(clusterSet()).length > 0 || existsSync(volumesOf(state)))
    await step("what an earlier demo left", remove);
  const ok = await runDemo(options, state);
  say();
  say(bold("Look around"));
  say(`  export KUBECONFIG=${kubeconfigPath("coordinator")}   ${dim("# sites: the same with their names")}`);
  say(`  ${join(cacheDir, "bin", "kubectl")} -n rondo get fed,fr,part,av`);
  say(`  ${dim("the adapter, as PEFT files:")} ${join(state, "adapter")}`);
  say(bold("Chat with it"));
  say(chatSnippet(options));
  say(bold("Stop"));
  say("  make demo-down");
  if (!ok) process.exitCode = 1;
}

async function stop(): Promise<void> {
  await step("the demo's clusters are taken down", remove);
  say("Nothing of them is left; caches stay.");
}

/** The summary and the adapter stay: they are what the demo was for. */
async function remove(): Promise<void> {
  await down();
  rmSync(volumesOf(state), { recursive: true, force: true });
}

function chatSnippet({ model }: DemoOptions): string {
  const base = join(cacheDir, "models", model === "tiny" ? "tiny-llama" : "smollm2-135m-instruct");
  return [
    `${join(cacheDir, "venv", "bin", "python")} - <<'PY'`,
    "import peft, transformers as t",
    `m = peft.PeftModel.from_pretrained(t.AutoModelForCausalLM.from_pretrained("${base}"), "${join(state, "adapter")}"); k = t.AutoTokenizer.from_pretrained("${base}")`,
    `x = k.apply_chat_template([{"role": "user", "content": 'In hacker slang, what does "foo" mean?'}], add_generation_prompt=True, return_tensors="pt", return_dict=True)`,
    `print(k.decode(m.generate(input_ids=x["input_ids"], attention_mask=x["attention_mask"], max_new_tokens=60)[0][x["input_ids"].shape[1]:], skip_special_tokens=True))`,
    "PY",
  ]
    .map((line) => `  ${line}`)
    .join("\n");
}
