/**
 * Fetches a PEFT adapter from an OCI repository into a folder: adapter_model.safetensors and adapter_config.json, by tag or digest.
 * Holds: every file is verified against the manifest, and the manifest against its digest, before it has its name; sizes are bounded;
 *   file names are ours, never the registry's; a file that is there already with the right digest is not fetched again.
 * Does not: judge ranks or names of tensors (peft.ts), or widen to F32 (safetensors.ts, copyAsFloat32).
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { effect } from "../fault-injection.ts";
import { CONFIG_FILE, parseManifest, WEIGHTS_FILE } from "./adapter-manifest.ts";
import { PublishFault } from "./fault.ts";
import { type Descriptor, describeFile, type OciRepository } from "./oci.ts";

export interface PulledAdapter {
  /** Of the OCI manifest. */
  digest: string;
  /** SHA-256 of adapter_model.safetensors, with `sha256:` in front. */
  adapterDigest: string;
  byteLength: number;
  weightsFile: string;
  configFile: string;
  annotations: Record<string, string>;
}

/** Far above any adapter_config.json. */
const CONFIG_BYTES = 1 << 20;

/**
 * @param reference       tag or digest
 * @param limitBytes      of adapter_model.safetensors
 * @throws PublishFault "NotFound" | "NotAnAdapter" | "TooLarge" | "DigestMismatch" | "RegistryUnreachable" | "Unauthorized" | "Refused"
 */
export async function pullAdapter(
  repository: OciRepository,
  reference: string,
  folder: string,
  limitBytes: number,
): Promise<PulledAdapter> {
  const manifest = await repository.pullManifest(reference);
  const { weights, config, annotations } = parseManifest(manifest.bytes, `${repository.name} ${reference}`);
  for (const [file, { size }, limit] of [
    [WEIGHTS_FILE, weights, limitBytes],
    [CONFIG_FILE, config, CONFIG_BYTES],
  ] as const) {
    if (size > limit)
      throw new PublishFault("TooLarge", `${file} of ${repository.name} has ${size} bytes; at most ${limit} are read`);
  }
  await mkdir(folder, { recursive: true });
  effect("file", "make the folder of a pulled adapter");
  const weightsFile = join(folder, WEIGHTS_FILE);
  const configFile = join(folder, CONFIG_FILE);
  await pullOnce(repository, weights, weightsFile);
  await pullOnce(repository, config, configFile);
  const { digest } = manifest;
  return { digest, adapterDigest: weights.digest, byteLength: weights.size, weightsFile, configFile, annotations };
}

async function pullOnce(repository: OciRepository, wanted: Descriptor, file: string): Promise<void> {
  const held = await describeFile(file, wanted.mediaType).catch(() => undefined);
  if (held?.digest !== wanted.digest) await repository.pullBlob(wanted, file);
}
