/**
 * `make demo MODEL=tiny` as a person runs it, on five real clusters: two rounds with real trainer pods, from nothing to a published adapter.
 * What it leaves is then looked at from outside: with kubectl, through the registry, and with PEFT.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { clusterSet, kubeconfigPath } from "../cluster/layout.ts";
import { Kubectl, python } from "../demo/programs.ts";
import { SITES } from "../demo/sites.ts";
import type { DemoSummary } from "../demo/summary.ts";

const SET = "e2e-demo";
const state = mkdtempSync(join(tmpdir(), "rondo-demo-"));
const demo = (...args: string[]) =>
  spawnSync(process.execPath, ["test/demo/main.ts", ...args], {
    encoding: "utf8",
    env: { ...process.env, RONDO_CLUSTERS_SET: SET, RONDO_DEMO_STATE: state },
    timeout: 850_000,
  });
const names = ["coordinator", ...SITES.map(({ name }) => name)];
const kubectl = (name: string) => new Kubectl(kubeconfigPath(name, clusterSet(SET)));

describe("what cannot be asked of the demo is refused in a sentence, before anything starts", () => {
  test.each([
    {
      says: "no rounds",
      args: ["--rounds", "0"],
      sentence: "ROUNDS=0 is out of range: it is a whole number from 1 to 1000.",
    },
    {
      says: "more participants than there is text for",
      args: ["--participants", "9"],
      sentence: "PARTICIPANTS=9 is out of range: it is a whole number from 2 to 4.",
    },
    {
      says: "half a step",
      args: ["--steps", "0.5"],
      sentence: "STEPS=0.5 is out of range: it is a whole number from 1 to 10000.",
    },
    {
      says: "a model that it does not have",
      args: ["--model", "gpt"],
      sentence: "MODEL=gpt is unknown: use smollm2 or tiny.",
    },
  ])("$says", ({ args, sentence }) => {
    const { status, stdout } = demo("up", ...args);
    expect(stdout).toContain(sentence);
    expect(status).toBe(1);
  });
});

describe("two rounds with the tiny model", () => {
  let output = "";
  let status: number | null = null;
  let summary: DemoSummary;

  beforeAll(() => {
    ({ stdout: output, status } = demo("up", "--model", "tiny", "--rounds", "2"));
    if (status !== 0) console.error(output.slice(-4000));
    summary = JSON.parse(readFileSync(join(state, "summary.json"), "utf8")) as DemoSummary;
  }, 900_000);

  afterAll(() => {
    demo("down");
    rmSync(state, { recursive: true, force: true });
  }, 120_000);

  test("it ends well, and says so in its exit code and in the summary", () => {
    expect(status).toBe(0);
    expect(summary.ok).toBe(true);
  });

  test("both rounds have succeeded with everybody's contribution, each on top of the one before", () => {
    expect(summary.rounds.map(({ name, phase, contributions }) => ({ name, phase, contributions }))).toEqual([
      { name: "dictionaries-r1", phase: "Succeeded", contributions: "4/4" },
      { name: "dictionaries-r2", phase: "Succeeded", contributions: "4/4" },
    ]);
    expect(summary.rounds.map(({ adapter }) => adapter?.version)).toEqual([1, 2]);
  });

  test("every participant's held-out loss is lower than under the base model", () => {
    for (const { name } of SITES) expect(summary.loss.final[name]).toBeLessThan(summary.loss.base[name]! - 0.1);
  });

  test("the summary has the seconds of every phase, the bytes and the memory", () => {
    for (const { seconds, bytesUp, bytesDown } of summary.rounds) {
      expect(Object.keys(seconds)).toEqual([
        "planning",
        "training",
        "aggregating",
        "evaluating",
        "publishing",
        "total",
      ]);
      expect(seconds.training).toBeGreaterThan(0);
      expect(seconds.total).toBeGreaterThanOrEqual(seconds.training);
      expect(bytesUp).toBeGreaterThan(4 * 57_344);
      expect(bytesDown).toBeGreaterThan(4 * 57_344);
    }
    expect(Object.keys(summary.seconds)).toEqual(["setUp", "clusters", "install", "rounds", "total"]);
    expect(summary.peakRssMiB.operator).toBeGreaterThan(30);
    expect(summary.peakRssMiB.agent).toBeGreaterThan(30);
  });

  test("without a terminal the lines are plain", () => {
    expect(output).not.toContain("\u001b");
    expect(output).toMatch(/chemistry +Training +\d+\/20 loss \d+\.\d+/);
  });

  test("kubectl shows federation, rounds, participants and versions", async () => {
    const shown = await kubectl("coordinator").run(["-n", "rondo", "get", "fed,fr,part,av"]);
    expect(shown).toMatch(/federation.*dictionaries +True +2 +2 /);
    expect(shown).toMatch(/federationround.*dictionaries-r2 +dictionaries +Succeeded +4\/4 +dictionaries-v2 /);
    expect(shown).toMatch(/participant.*satire +True +true +2 /);
    expect(shown).toMatch(/adapterversion.*dictionaries-v2 +dictionaries +2 +Active +1 /);
    expect(shown).toMatch(/adapterversion.*dictionaries-v1 +dictionaries +1 +Superseded +0 /);
  });

  test.each(names)("no Job, trainer pod or task Secret is left in the cluster %s", async (name) => {
    const left = await kubectl(name).run([
      "-n",
      "rondo",
      "get",
      "jobs,pods,secrets",
      "-l",
      "app.kubernetes.io/managed-by=rondo",
      "-o",
      "name",
    ]);
    expect(
      left
        .split("\n")
        .filter((line) => !/^pod\/rondo-|^$/.test(line))
        .filter((line) => !line.startsWith("secret/rondo-")),
    ).toEqual([]);
  });

  test("PEFT loads the published adapter onto the base model", () => {
    const load = [
      "import sys, torch, peft, transformers as t",
      "m = peft.PeftModel.from_pretrained(t.AutoModelForCausalLM.from_pretrained('test/models/tiny-llama', dtype=torch.float32), sys.argv[1])",
      "print(sum(float(p.abs().sum()) for n, p in m.named_parameters() if 'lora_B' in n) > 0)",
    ].join("\n");
    const { stdout, stderr } = spawnSync(python, ["-c", load, join(state, "adapter")], { encoding: "utf8" });
    expect(stdout.trim(), stderr).toBe("True");
  });

  test("no loss and no number of records is in the coordinator's objects, events, metrics or log", async () => {
    const coordinator = kubectl("coordinator");
    const everything = [
      await coordinator.run(["-n", "rondo", "get", "fed,fr,part,av,events,configmaps", "-o", "yaml"]),
      await coordinator.run(["-n", "rondo", "logs", "statefulset/rondo-operator"]),
      await coordinator.run(["get", "--raw", "/api/v1/namespaces/rondo/pods/rondo-operator-0:8080/proxy/metrics"]),
    ].join("\n");
    expect(everything).toContain("rondo_");
    for (const loss of [...Object.values(summary.loss.base), ...Object.values(summary.loss.final)]) {
      expect(everything).not.toContain(loss.toFixed(4));
    }
    expect(everything).not.toMatch(/"?(heldOut|parentLoss|trainLoss|examples)"?[:=] ?\d/);
  });
});
