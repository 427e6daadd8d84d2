/**
 * Publishes a PEFT adapter to an OCI repository: files, config, then the manifest under v<N> and at last under latest.
 * Holds: idempotent (what is there already is not sent again, and repetition gives the same digests); the manifest goes after
 *   everything it names, so that nothing half-written is ever visible; `latest` moves only when v<N> is complete.
 * Does not: decide whether a version may be published, or remember that it was (controllers).
 */
import {
  CONFIG_TYPE,
  configLayer,
  formatConfig,
  formatManifest,
  type Lineage,
  MANIFEST_TYPE,
  weightsLayer,
} from "./adapter-manifest.ts";
import { type Descriptor, describeFile, digestOf, type OciRepository } from "./oci.ts";
import { tensorTable } from "./peft.ts";
import { openSafetensors } from "./safetensors.ts";
import { valueCount } from "./safetensors-header.ts";

export interface AdapterFiles {
  /** adapter_model.safetensors, F32 */
  weights: string;
  /** adapter_config.json */
  config: Uint8Array;
  rank: number;
}

export interface PublishedAdapter {
  /** Of the OCI manifest. */
  digest: string;
  /** repository@digest */
  reference: string;
  /** SHA-256 of adapter_model.safetensors, with `sha256:` in front. */
  adapterDigest: string;
  byteLength: number;
  /** Bytes of blobs that the registry did not have. */
  bytesSent: number;
}

export interface PushOptions {
  /** Default: v<N> and latest, in this order. */
  tags?: readonly string[];
  /** Another repository of the same registry that may hold the same blobs. */
  mountFrom?: string;
}

/**
 * @throws PublishFault; SafetensorsFault and PeftFault when the file is not a LoRA adapter of that rank
 */
export async function pushAdapter(
  repository: OciRepository,
  files: AdapterFiles,
  lineage: Lineage,
  options: PushOptions = {},
): Promise<PublishedAdapter> {
  const parameters = await countParameters(files);
  const weights = weightsLayer(await describeFile(files.weights, "application/octet-stream"));
  const config = configLayer(describeBytes(files.config, "application/octet-stream"));
  const modelConfig = formatConfig(lineage, parameters, [weights, config]);
  const modelConfigDescriptor = describeBytes(modelConfig, CONFIG_TYPE);
  const manifest = formatManifest(lineage, modelConfigDescriptor, [weights, config]);

  const { mountFrom, tags = [`v${lineage.version}`, "latest"] } = options;
  let bytesSent = await repository.pushBlob(weights, { file: files.weights }, mountFrom);
  bytesSent += await repository.pushBlob(config, { bytes: files.config }, mountFrom);
  bytesSent += await repository.pushBlob(modelConfigDescriptor, { bytes: modelConfig }, mountFrom);
  const digest = digestOf(manifest);
  await repository.pushManifest(digest, MANIFEST_TYPE, manifest);
  for (const tag of tags) await repository.pushManifest(tag, MANIFEST_TYPE, manifest);
  return {
    digest,
    reference: `${repository.name}@${digest}`,
    adapterDigest: weights.digest,
    byteLength: weights.size,
    bytesSent,
  };
}

async function countParameters(files: AdapterFiles): Promise<number> {
  await using adapter = await openSafetensors(files.weights);
  return tensorTable(adapter.header.tensors, files.rank).reduce((sum, { shape }) => sum + valueCount(shape), 0);
}

function describeBytes(bytes: Uint8Array, mediaType: string): Descriptor {
  return { mediaType, digest: digestOf(bytes), size: bytes.length };
}
