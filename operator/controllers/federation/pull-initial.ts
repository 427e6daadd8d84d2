/** Fetches adapter.initialFrom and checks that it is an adapter of the same base model, rank, alpha and modules. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Federation } from "../../api/federation.ts";
import { parseAdapterConfig } from "../../publish/peft.ts";
import { pullAdapter } from "../../publish/pull-adapter.ts";
import { parseReference } from "../../publish/reference.ts";
import { MOST_ADAPTER_BYTES } from "../adapters.ts";
import type { Context } from "../context.ts";
import { repositoryOf } from "../registry.ts";
import { InitialAdapterFault } from "./initialise.ts";

/** @returns the weights' file. @throws PublishFault | PeftFault | InitialAdapterFault */
export async function pullInitial(context: Context, federation: Federation, signal: AbortSignal): Promise<string> {
  const { adapter, publish } = federation.spec;
  const from = parseReference(adapter.initialFrom!.reference);
  const repository = await repositoryOf(context.client, context.config.namespace, publish.oci, { at: from, signal });
  const folder = context.adapters.scratch(`from-${federation.metadata.uid}`);
  const pulled = await pullAdapter(repository, from.digest ?? from.tag!, folder, MOST_ADAPTER_BYTES);
  checkConfig(federation, parseAdapterConfig(await readFile(pulled.configFile)));
  return join(folder, "adapter_model.safetensors");
}

function checkConfig(federation: Federation, found: ReturnType<typeof parseAdapterConfig>): void {
  const { adapter, baseModel } = federation.spec;
  const differs = (field: string, has: unknown, wants: unknown) => {
    throw new InitialAdapterFault(
      `adapter.initialFrom has ${field} ${has}, and the Federation wants ${wants}; choose another adapter or change the Federation`,
    );
  };
  if (found.rank !== adapter.rank) differs("rank", found.rank, adapter.rank);
  if (found.alpha !== adapter.alpha) differs("alpha", found.alpha, adapter.alpha);
  // Exporters leave the name empty or write a local path: only two names that can both be read as the model's are compared.
  if (found.baseModel.name && !found.baseModel.name.startsWith("/") && found.baseModel.name !== baseModel.name)
    differs("base model", found.baseModel.name, baseModel.name);
  const modules = (names: readonly string[]) => [...names].sort().join(", ");
  if (modules(found.targetModules) !== modules(adapter.targetModules))
    differs("target modules", modules(found.targetModules), modules(adapter.targetModules));
}
