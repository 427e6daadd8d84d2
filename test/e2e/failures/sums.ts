/** What a published version says of the sum that it was made of: whose steps are in the mean, and that no mask was left. */
import { expect } from "vitest";
import type { AdapterVersion } from "../../../operator/api/adapter-version.ts";
import type { FederationRound } from "../../../operator/api/federation-round.ts";
import { ADAPTER_VERSIONS } from "../../../operator/kube/resources.ts";
import { MANIFEST_TYPE, WEIGHTS_TYPE } from "../../../operator/publish/adapter-manifest.ts";
import { parseReference } from "../../../operator/publish/reference.ts";
import { NAMESPACE } from "../../demo/install.ts";
import type { FederationUnderTest } from "./federation.ts";
import type { Site } from "./site.ts";

/** Of rounding to ring elements and to float32, for values below 1 and a clip of 20: 1e-7. Means of two different sets of sites differ by 8e-5. */
const TOLERANCE = 1e-6;

/** Every value has moved by the mean of these sites' steps, and by nothing else. */
export async function isMeanOf(
  federation: FederationUnderTest,
  { status, spec }: FederationRound,
  sites: readonly Site[],
): Promise<void> {
  const [parent, made] = await Promise.all(
    [status.plan!.parentVersion, status.adapter!.version].map((version) =>
      tensorsOf(federation, spec.federation, version),
    ),
  );
  const mean = sites.reduce((sum, { step }) => sum + step, 0) / sites.length;
  expect([...made!.keys()]).toEqual([...parent!.keys()]);
  for (const [name, values] of made!) {
    const before = parent!.get(name)!;
    expect(values.length, name).toBe(before.length);
    const worst = values.reduce((most, value, i) => Math.max(most, Math.abs(value - before[i]! - mean)), 0);
    expect(worst, `${name}: no value is further than this from its parent's and ${mean}`).toBeLessThan(TOLERANCE);
  }
}

async function tensorsOf(
  { kube }: FederationUnderTest,
  federation: string,
  version: number,
): Promise<Map<string, Float32Array>> {
  const { items } = await kube.list(ADAPTER_VERSIONS, { namespace: NAMESPACE });
  const { spec } = (items as unknown as AdapterVersion[]).find(
    (each) => each.spec.federation === federation && each.spec.version === version,
  )!;
  const { registry, repository } = parseReference(spec.reference);
  const base = `http://${registry}/v2/${repository}`;
  const accept = MANIFEST_TYPE;
  const manifest = (await (
    await fetch(`${base}/manifests/${spec.digest}`, { headers: { accept } })
  ).json()) as Manifest;
  const layer = manifest.layers.find(({ mediaType }) => mediaType === WEIGHTS_TYPE)!;
  return tensors(Buffer.from(await (await fetch(`${base}/blobs/${layer.digest}`)).arrayBuffer()));
}

interface Manifest {
  layers: Array<{ digest: string; mediaType: string }>;
}

/** F32, by name. */
function tensors(file: Buffer): Map<string, Float32Array> {
  const headerBytes = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.subarray(8, 8 + headerBytes).toString("utf8")) as Record<
    string,
    { data_offsets: [number, number] }
  >;
  const data = file.subarray(8 + headerBytes);
  const named = Object.entries(header).filter(([name]) => name !== "__metadata__");
  return new Map(
    named.map(
      ([
        name,
        {
          data_offsets: [from, to],
        },
      ]) => [name, new Float32Array(new Uint8Array(data.subarray(from, to)).buffer)],
    ),
  );
}
