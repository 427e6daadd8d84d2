/** The real helm. Holds: what it prints is returned, never thrown. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import { binaries, type Printed, printed } from "../api/kubectl.ts";

export type Rendered = {
  apiVersion: string;
  kind: string;
  metadata: { name: string; annotations?: Record<string, string> };
  // biome-ignore lint/suspicious/noExplicitAny: any Kubernetes object, looked into by tests
  [part: string]: any;
};

const charts = join(import.meta.dirname, "../../../charts");
/** `helm template` knows no cluster, and a helm that is built from source takes itself for Kubernetes 1.20. */
const KUBE_VERSION = "1.36.0";

export function chart(name: "rondo" | "rondo-agent"): string {
  return join(charts, name);
}

export class Helm {
  #files = 0;
  readonly #folder: string;
  readonly #kubeconfig: string | undefined;

  /** @param folder where values files are written */
  constructor(folder: string, kubeconfig?: string) {
    this.#folder = folder;
    this.#kubeconfig = kubeconfig;
  }

  /** @param values JSON, which helm reads as YAML */
  async run(args: string[], values?: object): Promise<Printed> {
    const where = this.#kubeconfig ? ["--kubeconfig", this.#kubeconfig] : [];
    const given = values ? ["--values", await this.#written(values)] : [];
    return await printed(join(binaries, "helm"), [...args, ...given, ...where]);
  }

  async #written(values: object): Promise<string> {
    const file = join(this.#folder, `values-${this.#files++}.json`);
    await writeFile(file, JSON.stringify(values));
    return file;
  }

  lint(name: "rondo" | "rondo-agent", values: object): Promise<Printed> {
    return this.run(["lint", "--strict", chart(name)], values);
  }

  template(name: "rondo" | "rondo-agent", values: object, namespace = "here"): Promise<Printed> {
    return this.run(["template", name, chart(name), "--kube-version", KUBE_VERSION, "-n", namespace], values);
  }

  /** @throws Error with what helm printed */
  async rendered(name: "rondo" | "rondo-agent", values: object, namespace = "here"): Promise<Rendered[]> {
    const { ok, stdout, stderr } = await this.template(name, values, namespace);
    if (!ok) throw new Error(stderr);
    return parseAllDocuments(stdout)
      .map((document) => document.toJS() as Rendered | null)
      .filter((object) => object !== null);
  }
}

export function find(objects: Rendered[], kind: string, name: string): Rendered {
  const found = objects.find((object) => object.kind === kind && object.metadata.name === name);
  if (!found)
    throw new Error(`no ${kind} ${name} among ${objects.map((o) => `${o.kind} ${o.metadata.name}`).join(", ")}`);
  return found;
}
