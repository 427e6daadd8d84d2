/**
 * A kubeconfig with exactly the rights that a chart gives its program: a token of its ServiceAccount, bound to its Role. Tests that run
 * the programs use it in place of the administrator's, so that a Role that lacks a verb fails them.
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parse, stringify } from "yaml";
import { kubectl } from "../api/kubectl.ts";
import { find, Helm } from "./helm.ts";
import { site } from "./values.ts";

const programs = {
  rondo: { account: "rondo-operator", values: {} },
  "rondo-agent": { account: "rondo-agent", values: site },
} as const;

/**
 * @param administrator path of the kubeconfig that may create Roles
 * @param folder receives the kubeconfig
 * @returns its path
 */
export async function kubeconfigOfChart(
  chart: keyof typeof programs,
  { administrator, namespace, folder }: { administrator: string; namespace: string; folder: string },
): Promise<string> {
  const { account, values } = programs[chart];
  const objects = await new Helm(folder).rendered(chart, values, namespace);
  const wanted = ["ServiceAccount", "Role", "RoleBinding"].map((kind) => find(objects, kind, account));
  const run = async (args: string[], stdin?: unknown) => {
    const printed = await kubectl(administrator, ["-n", namespace, ...args], stdin);
    if (!printed.ok) throw new Error(printed.stderr);
    return printed.stdout;
  };
  await run(["apply", "-f", "-"], { apiVersion: "v1", kind: "List", items: wanted });
  const token = (await run(["create", "token", account, "--duration=1h"])).trim();
  const config = parse(await readFile(administrator, "utf8"));
  const path = join(folder, `${chart}.kubeconfig`);
  const users = [{ name: config.users[0].name, user: { token } }];
  await writeFile(path, stringify({ ...config, users }), { mode: 0o600 });
  return path;
}
