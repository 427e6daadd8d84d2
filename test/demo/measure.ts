/** What is measured once the rounds have ended: losses at their sites, the adapter as anybody would pull it, memory. */
import { join } from "node:path";
import type { AdapterVersion } from "../../operator/api/adapter-version.ts";
import { OciRepository } from "../../operator/publish/oci.ts";
import { pullAdapter } from "../../operator/publish/pull-adapter.ts";
import { parseReference } from "../../operator/publish/reference.ts";
import { cacheDir } from "../cluster/layout.ts";
import { NAMESPACE } from "./install.ts";
import { type Kubectl, python, run } from "./programs.ts";
import { NOBODYS_TEXT, type Site } from "./sites.ts";

/** As a trainer reports it: means in nats per token. */
type HeldOut = { tokens: number; parentLoss: number; loss: number };

export interface Losses {
  base: Record<string, number>;
  final: Record<string, number>;
}

/** Asks each site's own agent, in its own cluster: version 0 changes nothing, so its loss is the base model's. */
export async function losses(
  sites: readonly Site[],
  kubectlOf: (name: string) => Kubectl,
  federation: string,
  candidate: AdapterVersion,
): Promise<Losses> {
  const scored = await Promise.all(
    sites.map(async ({ name }) => {
      const printed = await kubectlOf(name).run([
        ...["-n", NAMESPACE, "exec", "deployment/rondo-agent", "--"],
        ...["rondo", "agent", "evaluate", "--federation", federation, "--version-digest", candidate.spec.adapterDigest],
      ]);
      return [name, JSON.parse(printed) as HeldOut] as const;
    }),
  );
  return {
    base: Object.fromEntries(scored.map(([name, { parentLoss }]) => [name, parentLoss])),
    final: Object.fromEntries(scored.map(([name, { loss }]) => [name, loss])),
  };
}

/** Scored on this machine: the text belongs to nobody in the federation. */
export async function lossElsewhere(model: string, adapter: string): Promise<{ base: number; final: number }> {
  const printed = await run(
    python,
    ["scripts/demo-data/score.py", model, adapter, join(cacheDir, "data", NOBODYS_TEXT)],
    { env: { OMP_WAIT_POLICY: "PASSIVE", HF_HUB_OFFLINE: "1", TOKENIZERS_PARALLELISM: "false" } },
  );
  const { parentLoss, loss } = JSON.parse(printed) as HeldOut;
  return { base: parentLoss, final: loss };
}

const ADAPTER_LIMIT_BYTES = 64 << 20;

/** As anybody would fetch it: by digest, from the registry. */
export async function pullFinalAdapter({ spec }: AdapterVersion, folder: string): Promise<void> {
  const { registry, repository } = parseReference(spec.reference);
  await pullAdapter(
    new OciRepository({ registry, repository, plainHttp: true }),
    spec.digest,
    folder,
    ADAPTER_LIMIT_BYTES,
  );
}

/** The kernel's high-water mark of the program in the pod. For the agents: the largest of them. */
export async function peakRssMiB(coordinator: Kubectl, sites: Kubectl[]): Promise<{ operator: number; agent: number }> {
  const peak = async (kubectl: Kubectl, workload: string) => {
    const status = await kubectl.run(["-n", NAMESPACE, "exec", workload, "--", "cat", "/proc/1/status"]);
    return Math.round(Number(status.match(/VmHWM:\s+(\d+) kB/)?.[1] ?? Number.NaN) / 1024);
  };
  const agents = await Promise.all(sites.map((kubectl) => peak(kubectl, "deployment/rondo-agent")));
  return { operator: await peak(coordinator, "statefulset/rondo-operator"), agent: Math.max(...agents) };
}
