/** The demo as a person runs it, with the one-million-parameter model: what it prints, writes, and leaves behind in its clusters. */
import { spawn } from "node:child_process";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { clusterSet, kubeconfigPath } from "../cluster/layout.ts";
import { Kubectl, run } from "../demo/programs.ts";
import { volumesOf } from "../demo/run.ts";
import { SITES } from "../demo/sites.ts";
import type { DemoSummary } from "../demo/summary.ts";

const SET = "e2e-demo";
const state = join(process.cwd(), ".rondo/e2e/demo");
const sites = SITES.map(({ name }) => name);

/** Not a terminal, and nothing of a continuous integration system that would say so: that is what is under test. */
const { CI: _, NO_COLOR: __, ...environment } = process.env;

function demo(...args: string[]): Promise<{ code: number | null; printed: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["test/demo/main.ts", ...args], {
      env: { ...environment, RONDO_CLUSTERS_SET: SET, RONDO_DEMO_STATE: state },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let printed = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        printed += text;
      });
    }
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, printed }));
  });
}

const kubectl = (cluster: string) => new Kubectl(kubeconfigPath(cluster, clusterSet(SET)));
const coordinator = () => kubectl("coordinator");

describe("make demo MODEL=tiny", () => {
  let ended: Awaited<ReturnType<typeof demo>>;
  let summary: DemoSummary;

  beforeAll(async () => {
    ended = await demo("up", "--model", "tiny", "--rounds", "2");
    expect(ended.code, ended.printed).toBe(0);
    summary = JSON.parse(readFileSync(join(state, "summary.json"), "utf8")) as DemoSummary;
  });
  afterAll(async () => {
    const { code, printed } = await demo("down");
    rmSync(state, { recursive: true, force: true });
    expect(code, printed).toBe(0);
  });

  test("leaves a summary of exactly the promised form", () => {
    const perSite = Object.fromEntries(sites.map((name) => [name, expect.any(Number)]));
    const round = (version: number) => ({
      name: `dictionaries-r${version}`,
      phase: "Succeeded",
      contributions: "4/4",
      seconds: {
        planning: expect.any(Number),
        training: expect.any(Number),
        aggregating: expect.any(Number),
        evaluating: 0,
        publishing: expect.any(Number),
        total: expect.any(Number),
      },
      adapter: {
        version,
        reference: expect.stringMatching(/^10\.77\.\d+\.10:30500\/adapters\/dictionaries@sha256:[0-9a-f]{64}$/),
        digest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
      },
      bytesUp: expect.any(Number),
      bytesDown: expect.any(Number),
    });
    expect(summary).toEqual({
      ok: true,
      rounds: [round(1), round(2)],
      loss: { base: perSite, final: perSite },
      lossElsewhere: { base: expect.any(Number), final: expect.any(Number) },
      seconds: {
        setUp: expect.any(Number),
        clusters: expect.any(Number),
        install: expect.any(Number),
        rounds: expect.any(Number),
        total: expect.any(Number),
      },
      peakRssMiB: { operator: expect.any(Number), agent: expect.any(Number) },
    });
    for (const { bytesUp, bytesDown, seconds } of summary.rounds) {
      expect(bytesUp).toBeGreaterThan(10_000);
      expect(bytesDown).toBeGreaterThan(10_000);
      expect(seconds.total).toBeGreaterThan(seconds.training);
    }
  });

  test.each(sites)("the published adapter answers better than the base model on the held-out text of %s", (name) => {
    expect(summary.loss.final[name]!).toBeLessThan(summary.loss.base[name]! - 0.01);
  });

  test("prints plain lines where there is no terminal: each participant with its steps and loss, the outcome, the table", () => {
    const { printed } = ended;
    // biome-ignore lint/suspicious/noControlCharactersInRegex: terminal control is what must not be there
    expect(printed).not.toMatch(/[\x1b\r]/);
    for (const name of sites) {
      expect(printed).toMatch(new RegExp(`^ {4}${name} +Training +\\d+/20`, "m"));
      expect(printed).toMatch(new RegExp(`^ {4}${name} +Contributed +20/20 loss \\d+\\.\\d+`, "m"));
      expect(printed).toMatch(new RegExp(`^ {2}${name} +\\d+\\.\\d{3} → +\\d+\\.\\d{3} +−\\d+\\.\\d{3}$`, "m"));
    }
    expect(printed).toMatch(/✓ dictionaries-r2 Succeeded: version 2 from 4 of 4 participants is at 10\.77\./);
    expect(printed).toContain(`export KUBECONFIG=${kubeconfigPath("coordinator", clusterSet(SET))}`);
    expect(printed).toContain("make demo-down");
  });

  test("the lines that it prints for a chat work", async () => {
    const [snippet] = ended.printed.split("Chat with it\n")[1]!.split("Stop\n");
    const script = snippet!.replace(/^ {2}/gm, "");
    expect(script).toContain(join(state, "adapter"));
    const said = await run("bash", ["-c", script], { env: { HF_HUB_OFFLINE: "1", PYTHONWARNINGS: "ignore" } });
    expect(said.trim()).not.toBe("");
  });

  test("kubectl shows federation, rounds, participants and versions at a glance", async () => {
    const shown = async (kind: string) => {
      const [header, ...rows] = (await coordinator().run(["-n", "rondo", "get", kind])).trim().split("\n");
      return { columns: header!.split(/ {2,}|\s(?=[A-Z])/).filter(Boolean), rows: rows.map((row) => row.split(/\s+/)) };
    };
    const fed = await shown("fed");
    expect(fed.columns).toEqual(["NAME", "READY", "VERSION", "SUCCEEDED", "FAILED", "CURRENT", "AGE"]);
    expect(fed.rows[0]!.slice(0, 4)).toEqual(["dictionaries", "True", "2", "2"]);
    const fr = await shown("fr");
    expect(fr.columns).toEqual(["NAME", "FEDERATION", "PHASE", "CONTRIBUTIONS", "ADAPTER", "AGE"]);
    expect(fr.rows.map((row) => row.slice(0, 5))).toEqual([
      ["dictionaries-r1", "dictionaries", "Succeeded", "4/4", "dictionaries-v1"],
      ["dictionaries-r2", "dictionaries", "Succeeded", "4/4", "dictionaries-v2"],
    ]);
    const part = await shown("part");
    expect(part.rows.map(([name]) => name).sort()).toEqual([...sites].sort());
    const av = await shown("av");
    expect(av.rows.map((row) => [row[0], row[3]])).toEqual([
      ["dictionaries-v0", "Superseded"],
      ["dictionaries-v1", "Superseded"],
      ["dictionaries-v2", "Active"],
    ]);
  });

  test.each(["coordinator", ...sites])("leaves no Job, trainer or task Secret in the cluster %s", async (name) => {
    expect(await kubectl(name).run(["get", "jobs", "-A", "-o", "name"])).toBe("");
    const secrets = await kubectl(name).run(["get", "secrets", "-A", "-o", "name"]);
    expect(secrets).not.toContain("-task");
    const trainers = await kubectl(name).run(["get", "pods", "-A", "-l", "rondo.dev/kind", "-o", "name"]);
    expect(trainers).toBe("");
  });

  test("no site's loss or count of examples is in the coordinator's objects, events, metrics, log or volume", async () => {
    const own = await Promise.all(
      sites.map(async (name) => {
        const printed = await kubectl(name).run([
          ...["-n", "rondo", "exec", "deployment/rondo-agent", "--", "rondo", "agent", "results"],
        ]);
        return { printed, losses: printed.match(/\d\.\d{6,}/g) ?? [] };
      }),
    );
    const inTheOpen = await Promise.all([
      coordinator().run(["-n", "rondo", "get", "fed,fr,part,av,events,configmaps", "-o", "yaml"]),
      coordinator().run(["-n", "rondo", "logs", "rondo-operator-0"]),
      coordinator().run(["get", "--raw", "/api/v1/namespaces/rondo/pods/rondo-operator-0:8080/proxy/metrics"]),
    ]);
    const volume = join(volumesOf(state), "operator");
    const files = readdirSync(volume, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    expect(files.map(({ name }) => name)).toContain("journal.sqlite");
    const kept = files.map(({ parentPath, name }) => readFileSync(join(parentPath, name), "latin1"));
    const text = [...inTheOpen, ...kept].join("\n");
    expect(text).toContain("rondo_contributions_total");
    for (const [index, { printed, losses }] of own.entries()) {
      expect(losses.length, printed).toBeGreaterThanOrEqual(4); // held-out before and after, in two rounds
      const known = [...losses, String(summary.loss.final[sites[index]!]), String(summary.loss.base[sites[index]!])];
      for (const loss of known) expect(text).not.toContain(loss.slice(0, 7));
    }
    expect(text).not.toMatch(/"?(examples|heldOut|parentLoss)"?: ?\d/);
    // What a round does tell: the mean over all of its contributors.
    const shown = await coordinator().run([
      ...["-n", "rondo", "get", "fr", "-o"],
      "jsonpath={.items[*].status.metrics.trainLoss}",
    ]);
    const means = shown.trim().split(" ").map(Number);
    expect(means).toHaveLength(2);
    const told = [...text.matchAll(/"?trainLoss"?: ?"?(\d+(?:\.\d+)?)/g)].map(([, value]) => Number(value));
    for (const value of told) expect(means.some((mean) => Math.abs(mean - value) < 1e-3)).toBe(true);
  });
});

test.each([
  { args: ["--rounds", "0"], says: "ROUNDS=0 is out of range: it is a whole number from 1 to 1000." },
  { args: ["--participants", "9"], says: "PARTICIPANTS=9 is out of range: it is a whole number from 3 to 4." },
  { args: ["--model", "x"], says: "MODEL=x is unknown: use smollm2 or tiny." },
  { args: ["--steps", "some"], says: "STEPS=some is out of range: it is a whole number from 1 to 10000." },
])("make demo refuses $args in one sentence, before anything is started", async ({ args, says }) => {
  const { code, printed } = await demo("up", ...args);
  expect(printed.trim()).toBe(`✗ ${says}`);
  expect(code).toBe(1);
});
