/** Adapters pushed to a real registry, and read back byte by byte by us and by skopeo, which shares no code with us. */
import { execFile } from "node:child_process";
import { randomFillSync } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { describeFile, OciRepository } from "../../../operator/publish/oci.ts";
import { pullAdapter } from "../../../operator/publish/pull-adapter.ts";
import { pushAdapter } from "../../../operator/publish/push-adapter.ts";
import { REGISTRY_PASSWORD, REGISTRY_USER, type Registry, startRegistry } from "../registry.ts";
import { LINEAGE, makeAdapter } from "./adapters.ts";

const run = promisify(execFile);
const LIMIT = 64 << 20;
/** Faults come at once; a test that waits for a registry sets its own. */
const quick = { attempts: 2, firstDelayMs: 10, maxDelayMs: 10 };

let folder: string;
let registry: Registry;
let guarded: Registry;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "rondo-publish-"));
  [registry, guarded] = await Promise.all([startRegistry(), startRegistry({ authenticated: true })]);
});
afterAll(async () => {
  await registry?.[Symbol.asyncDispose]();
  await guarded?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

let unique = 0;
function repositoryOf(of: Registry, options: Partial<ConstructorParameters<typeof OciRepository>[0]> = {}) {
  const repository = `adapters/test-${unique++}`;
  return new OciRepository({ registry: of.host, repository, plainHttp: true, retry: quick, ...options });
}
async function skopeo(...args: string[]): Promise<Buffer> {
  const { stdout } = await run("skopeo", args, { encoding: "buffer" });
  return stdout;
}

describe("a published adapter", () => {
  test("comes back byte by byte, by tag and by digest", async () => {
    const repository = repositoryOf(registry);
    const files = await makeAdapter(folder);
    const pushed = await pushAdapter(repository, files, LINEAGE);
    for (const reference of ["v3", "latest", pushed.digest]) {
      const pulled = await pullAdapter(
        repository,
        reference,
        join(folder, `back-${reference.replace(":", "-")}`),
        LIMIT,
      );
      expect(pulled).toMatchObject({ digest: pushed.digest, adapterDigest: pushed.adapterDigest });
      expect(await readFile(pulled.weightsFile)).toEqual(await readFile(files.weights));
      expect(await readFile(pulled.configFile)).toEqual(Buffer.from(files.config));
      expect(pulled.annotations).toMatchObject({ "dev.rondo.round": "notes-r3", "dev.rondo.version": "3" });
    }
  });

  test("is the same to an independent client, which copies it with every layer", async () => {
    const repository = repositoryOf(registry);
    const files = await makeAdapter(folder);
    const pushed = await pushAdapter(repository, files, LINEAGE);
    const raw = await skopeo("inspect", "--raw", "--tls-verify=false", `docker://${repository.name}:v3`);
    const manifest = JSON.parse(raw.toString());
    expect(manifest).toMatchObject({
      artifactType: "application/vnd.cncf.model.manifest.v1+json",
      annotations: {
        "dev.rondo.base-model.digest": LINEAGE.baseModel.digest,
        "dev.rondo.parent.digest": LINEAGE.parentDigest,
      },
    });
    const copy = join(folder, "skopeo");
    await skopeo("copy", "--src-tls-verify=false", `docker://${pushed.reference}`, `dir:${copy}`);
    const [weights, config] = manifest.layers.map(({ digest }: { digest: string }) =>
      join(copy, digest.slice("sha256:".length)),
    );
    expect(await readFile(weights)).toEqual(await readFile(files.weights));
    expect(await readFile(config)).toEqual(Buffer.from(files.config));
  });

  test("pushed again sends nothing and has the same digest", async () => {
    const repository = repositoryOf(registry);
    const files = await makeAdapter(folder);
    const first = await pushAdapter(repository, files, LINEAGE);
    const again = await pushAdapter(repository, files, LINEAGE);
    expect(again).toEqual({ ...first, bytesSent: 0 });
    expect(first.bytesSent).toBeGreaterThan(first.byteLength);
  });

  test("larger than a chunk arrives in pieces", async () => {
    const repository = repositoryOf(registry, { chunkBytes: 1 << 20 });
    const files = await makeAdapter(folder, 300_000, "large.safetensors"); // 4.8 MB
    await pushAdapter(repository, files, LINEAGE);
    const pulled = await pullAdapter(repository, "v3", join(folder, "large"), LIMIT);
    expect(await readFile(pulled.weightsFile)).toEqual(await readFile(files.weights));
  });

  test("is mounted from a repository that has it, instead of sent", async () => {
    const source = `adapters/test-${unique}`;
    const files = await makeAdapter(folder);
    await pushAdapter(repositoryOf(registry), files, LINEAGE);
    const elsewhere = await pushAdapter(repositoryOf(registry), files, LINEAGE, { mountFrom: source });
    expect(elsewhere.bytesSent).toBeLessThan(1000); // the model config, which is no layer of the source by this name
  });
});

describe("a registry that goes down", () => {
  test("between the blobs and the manifest leaves nothing to see; a later push gives the digest it would have given", async () => {
    const own = await startRegistry();
    await using _ = own;
    const repository = repositoryOf(own);
    const files = await makeAdapter(folder);
    const undisturbed = await pushAdapter(repositoryOf(registry), files, LINEAGE);

    await repository.pushBlob(await describeFile(files.weights, "application/octet-stream"), { file: files.weights });
    await own.stop();
    await expect(pushAdapter(repository, files, LINEAGE)).rejects.toMatchObject({
      code: "RegistryUnreachable",
      message: `registry ${own.host} cannot be reached (ECONNREFUSED)`,
    });
    await own.start();
    await expect(repository.pullManifest("v3")).rejects.toMatchObject({ code: "NotFound" });
    const pushed = await pushAdapter(repository, files, LINEAGE);
    expect(pushed.digest).toBe(undisturbed.digest);
    expect(pushed.bytesSent).toBeLessThan(pushed.byteLength); // the weights were there already
  });

  test("in the middle of an upload and comes back within the retries: the push goes through", async () => {
    const own = await startRegistry();
    await using _ = own;
    const repository = repositoryOf(own, {
      chunkBytes: 1 << 20,
      retry: { attempts: 12, firstDelayMs: 100, maxDelayMs: 500 },
    });
    const files = await makeAdapter(folder, 3_000_000, "interrupted.safetensors"); // 48 MB in 46 pieces
    const push = pushAdapter(repository, files, LINEAGE);
    push.catch(() => undefined);
    await uploading(own);
    await own.stop();
    await own.start();
    const pushed = await push;
    const pulled = await pullAdapter(repository, pushed.digest, join(folder, "interrupted"), LIMIT);
    expect(pulled.adapterDigest).toBe(pushed.adapterDigest);
  });
});

describe("credentials", () => {
  const credentials = { username: REGISTRY_USER, password: REGISTRY_PASSWORD };
  test("that are right open the registry", async () => {
    const repository = repositoryOf(guarded, { credentials });
    const pushed = await pushAdapter(repository, await makeAdapter(folder), LINEAGE);
    expect((await pullAdapter(repository, "latest", join(folder, "guarded"), LIMIT)).digest).toBe(pushed.digest);
  });
  test.each([
    { says: "wrong", credentials: { ...credentials, password: "guess-of-a-password" }, ends: "with these credentials" },
    { says: "missing", credentials: undefined, ends: "without credentials" },
  ])("that are $says are a fault that does not quote them", async ({ credentials, ends }) => {
    const repository = repositoryOf(guarded, credentials && { credentials });
    const fault = await pushAdapter(repository, await makeAdapter(folder), LINEAGE).catch((error: unknown) => error);
    expect(fault).toMatchObject({ code: "Unauthorized" });
    expect((fault as Error).message).toMatch(new RegExp(`^registry ${guarded.host} does not let us .* ${ends}$`));
    expect(JSON.stringify(fault)).not.toContain("guess-of-a-password");
  });
});

describe("what is not right in a registry", () => {
  test("a blob cut short in its storage is refused, and no file appears", async () => {
    const repository = repositoryOf(registry);
    const pushed = await pushAdapter(repository, await makeAdapter(folder, 1000), LINEAGE);
    await truncate(storedBlob(registry, pushed.adapterDigest), 5000);
    const target = join(folder, "truncated");
    await expect(pullAdapter(repository, "v3", target, LIMIT)).rejects.toMatchObject({ code: "DigestMismatch" });
    expect(await readdir(target)).toEqual([]);
  });

  test("a blob with another byte in it is refused", async () => {
    const repository = repositoryOf(registry);
    const pushed = await pushAdapter(repository, await makeAdapter(folder, 1000), LINEAGE);
    const stored = storedBlob(registry, pushed.adapterDigest);
    const bytes = await readFile(stored);
    bytes[bytes.length - 1]! ^= 1;
    await writeFile(stored, bytes);
    await expect(pullAdapter(repository, "v3", join(folder, "flipped"), LIMIT)).rejects.toMatchObject({
      code: "DigestMismatch",
    });
  });

  test("an adapter larger than allowed is not fetched", async () => {
    const repository = repositoryOf(registry);
    await pushAdapter(repository, await makeAdapter(folder, 1000), LINEAGE);
    await expect(pullAdapter(repository, "v3", join(folder, "limit"), 4096)).rejects.toMatchObject({
      code: "TooLarge",
    });
  });

  test("a tag that does not exist is named", async () => {
    await expect(pullAdapter(repositoryOf(registry), "v9", join(folder, "none"), LIMIT)).rejects.toMatchObject({
      code: "NotFound",
    });
  });

  test("an image that is no adapter is refused with a sentence", async () => {
    const repository = repositoryOf(registry);
    const layer = randomFillSync(new Uint8Array(100));
    const file = join(folder, "layer");
    await writeFile(file, layer);
    const descriptor = await describeFile(file, "application/vnd.oci.image.layer.v1.tar");
    await repository.pushBlob(descriptor, { bytes: layer });
    const type = "application/vnd.oci.image.manifest.v1+json";
    const image = { schemaVersion: 2, mediaType: type, config: descriptor, layers: [descriptor] };
    await repository.pushManifest("v1", type, Buffer.from(JSON.stringify(image)));
    await expect(pullAdapter(repository, "v1", join(folder, "image"), LIMIT)).rejects.toMatchObject({
      code: "NotAnAdapter",
      message: `${repository.name} v1 has 0 layers named adapter_model.safetensors; an adapter has one`,
    });
  });
});

function storedBlob(of: Registry, digest: string): string {
  const hex = digest.slice("sha256:".length);
  return join(of.storage, "docker/registry/v2/blobs/sha256", hex.slice(0, 2), hex, "data");
}

/** Until the registry holds a few MB of an unfinished upload. */
async function uploading(of: Registry): Promise<void> {
  const root = join(of.storage, "docker/registry/v2/repositories");
  for (;;) {
    const { stdout } = await run("du", ["-sb", root]).catch(() => ({ stdout: "0" }));
    if (Number.parseInt(stdout, 10) > 4e6) return;
  }
}
