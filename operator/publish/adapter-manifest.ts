/**
 * A PEFT adapter as OCI artifact in the shape of the CNCF ModelPack specification (model-spec v0.0.7): one raw layer per file,
 * and, because that specification has no place for a LoRA adapter's ancestry, annotations for it.
 * Holds: the same files and lineage give the same manifest bytes and so the same digest (no times, no hosts).
 */
import { z } from "zod";
import { PublishFault } from "./fault.ts";
import type { Descriptor } from "./oci.ts";

export const MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json";
export const ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json";
export const CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json";
export const WEIGHTS_TYPE = "application/vnd.cncf.model.weight.v1.raw";
export const WEIGHT_CONFIG_TYPE = "application/vnd.cncf.model.weight.config.v1.raw";
export const WEIGHTS_FILE = "adapter_model.safetensors";
export const CONFIG_FILE = "adapter_config.json";
const FILE_PATH = "org.cncf.model.filepath";
/** What `oras push` calls a file; accepted in what we pull. */
const ORAS_TITLE = "org.opencontainers.image.title";

/** Where an adapter comes from; becomes the manifest's annotations. */
export interface Lineage {
  /** The federation's name. */
  federation: string;
  version: number;
  baseModel: { name: string; revision: string; digest: string };
  /** metadata.name of the FederationRound; absent for version 0. */
  round?: string;
  /** Manifest digest of the parent version; absent for version 0. */
  parentDigest?: string;
}

/** @param parameters  values in all tensors */
export function formatConfig(lineage: Lineage, parameters: number, layers: readonly Descriptor[]): Uint8Array {
  return Buffer.from(
    JSON.stringify({
      descriptor: { name: lineage.federation, version: String(lineage.version) },
      config: { format: "safetensors", paramSize: paramSize(parameters), precision: "float32" },
      modelfs: { type: "layers", diffIds: layers.map(({ digest }) => digest) },
    }),
  );
}

export function weightsLayer(descriptor: Descriptor): Descriptor {
  return { ...descriptor, mediaType: WEIGHTS_TYPE, annotations: { [FILE_PATH]: WEIGHTS_FILE } };
}

export function configLayer(descriptor: Descriptor): Descriptor {
  return { ...descriptor, mediaType: WEIGHT_CONFIG_TYPE, annotations: { [FILE_PATH]: CONFIG_FILE } };
}

export function formatManifest(lineage: Lineage, config: Descriptor, layers: readonly Descriptor[]): Uint8Array {
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MANIFEST_TYPE,
      artifactType: ARTIFACT_TYPE,
      config,
      layers,
      annotations: annotationsOf(lineage),
    }),
  );
}

export function annotationsOf(lineage: Lineage): Record<string, string> {
  return {
    "dev.rondo.federation": lineage.federation,
    "dev.rondo.version": String(lineage.version),
    ...(lineage.round !== undefined && { "dev.rondo.round": lineage.round }),
    ...(lineage.parentDigest !== undefined && { "dev.rondo.parent.digest": lineage.parentDigest }),
    "dev.rondo.base-model.name": lineage.baseModel.name,
    "dev.rondo.base-model.revision": lineage.baseModel.revision,
    "dev.rondo.base-model.digest": lineage.baseModel.digest,
  };
}

const descriptorSchema = z.object({
  mediaType: z.string().max(255),
  digest: z.string().regex(/^sha256:[0-9a-f]{64}$/),
  size: z
    .int()
    .min(0)
    .max(2 ** 40),
  annotations: z.record(z.string(), z.string()).optional(),
});

const manifestSchema = z.object({
  schemaVersion: z.literal(2),
  layers: z.array(descriptorSchema).min(1).max(1000),
  annotations: z.record(z.string(), z.string()).default({}),
});

export interface AdapterManifest {
  weights: Descriptor;
  config: Descriptor;
  annotations: Record<string, string>;
}

/**
 * Finds the two files of an adapter; other layers (a card, a licence) are left alone.
 * @throws PublishFault "NotAnAdapter"
 */
export function parseManifest(bytes: Uint8Array, name: string): AdapterManifest {
  const parsed = manifestSchema.safeParse(jsonOf(bytes));
  if (!parsed.success) throw new PublishFault("NotAnAdapter", `${name} is not an artifact with layers`);
  const { layers, annotations } = parsed.data;
  const named = (file: string): Descriptor => {
    const found = layers.filter(
      (layer) => (layer.annotations?.[FILE_PATH] ?? layer.annotations?.[ORAS_TITLE]) === file,
    );
    const [layer] = found;
    if (layer === undefined || found.length > 1) {
      throw new PublishFault("NotAnAdapter", `${name} has ${found.length} layers named ${file}; an adapter has one`);
    }
    if (/[+.](tar|gzip|zstd)/.test(layer.mediaType)) {
      throw new PublishFault(
        "NotAnAdapter",
        `${name} has ${file} packed as ${layer.mediaType}; only raw layers are read`,
      );
    }
    return { ...layer, annotations: layer.annotations ?? {} };
  };
  return { weights: named(WEIGHTS_FILE), config: named(CONFIG_FILE), annotations };
}

function jsonOf(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch {
    return undefined;
  }
}

/** "1.2M": the specification's form. */
function paramSize(parameters: number): string {
  for (const [unit, size] of [
    ["B", 1e9],
    ["M", 1e6],
    ["K", 1e3],
  ] as const) {
    if (parameters >= size) return `${Number((parameters / size).toFixed(1))}${unit}`;
  }
  return String(parameters);
}
