/**
 * The operator's own copies of adapters: <dataDir>/adapters/<sha256>.safetensors, F32, as rounds work on them and agents download them.
 * Holds: a file under its digest is complete and its content has that digest; what is missing is fetched again from the registry.
 */
import { mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { effect } from "../fault-injection.ts";
import { PublishFault } from "../publish/fault.ts";
import { describeFile, type OciRepository } from "../publish/oci.ts";
import { pullAdapter } from "../publish/pull-adapter.ts";

/** A rank-1024 adapter of a model with 70 billion parameters in F32 has about 26 GB: more is a mistake. */
export const MOST_ADAPTER_BYTES = 2 ** 35;

/** A candidate is named before its round's record knows it, and version 0 before it is pushed. */
const YOUNG_MS = 3_600_000;

/** Scratch names of version 0 as a trainer's Job hands it in: there once, and kept until it is published. */
export const DELIVERED = "initialise-";

export class AdapterStore {
  readonly #folder: string;
  /** By digest: several sites ask for one adapter at the same moment. */
  readonly #pulling = new Map<string, Promise<{ file: string; byteLength: number }>>();
  readonly #stopped = new AbortController();

  constructor(dataDir: string) {
    this.#folder = join(dataDir, "adapters");
  }

  /** Also removes what a process that died has left half done; its successor begins it anew, but for what a trainer has delivered. */
  async open(): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    effect("file", "make the folder of adapters");
    for (const name of await readdir(this.#folder)) {
      if (!name.includes(".partial") || name.startsWith(DELIVERED)) continue;
      await rm(join(this.#folder, name), { recursive: true, force: true });
      effect("file", "remove what was left half done");
    }
  }

  /** @param digest  sha256:<hex> */
  path(digest: string): string {
    return join(this.#folder, fileName(digest));
  }

  /** A name for work in progress in the same file system. */
  scratch(name: string): string {
    return join(this.#folder, `${name}.partial`);
  }

  async find(digest: string): Promise<{ file: string; byteLength: number } | undefined> {
    const file = this.path(digest);
    const found = await stat(file).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error;
      return undefined;
    });
    return found && { file, byteLength: found.size };
  }

  /** Gives a finished file its name. @returns the name */
  async keep(file: string, digest: string): Promise<string> {
    await rename(file, this.path(digest));
    effect("file", "rename to an adapter's digest");
    return this.path(digest);
  }

  /**
   * The file of a published version, from the registry when it is not here.
   * @param version  adapterDigest, and the manifest's digest to pull it by
   * @param repository  told of stop()
   * @throws PublishFault
   */
  async ensure(
    version: { adapterDigest: string; digest: string },
    repository: (signal: AbortSignal) => Promise<OciRepository>,
  ): Promise<{ file: string; byteLength: number }> {
    const held = await this.find(version.adapterDigest);
    if (held) return held;
    const { adapterDigest } = version;
    const pulling =
      this.#pulling.get(adapterDigest) ??
      this.#pull(version, repository).finally(() => this.#pulling.delete(adapterDigest));
    this.#pulling.set(adapterDigest, pulling);
    return pulling;
  }

  /** For a graceful stop: a registry that does not answer is waited for no longer. */
  async stop(): Promise<void> {
    this.#stopped.abort(new Error("the operator stops"));
    await Promise.allSettled(this.#pulling.values());
  }

  async #pull(
    version: { adapterDigest: string; digest: string },
    repository: (signal: AbortSignal) => Promise<OciRepository>,
  ) {
    const folder = this.scratch(`pull-${version.adapterDigest.slice(7, 23)}`);
    try {
      const pulled = await pullAdapter(
        await repository(this.#stopped.signal),
        version.digest,
        folder,
        MOST_ADAPTER_BYTES,
      );
      const { digest } = await describeFile(pulled.weightsFile, "");
      if (digest !== version.adapterDigest)
        throw new Error(`the registry's adapter has digest ${digest} and not ${version.adapterDigest}`);
      return { file: await this.keep(pulled.weightsFile, digest), byteLength: pulled.byteLength };
    } catch (error) {
      // Not the end of the round that wanted it: the next process asks again.
      if (this.#stopped.signal.aborted) throw new PublishFault("RegistryUnreachable", "the operator stops");
      throw error;
    } finally {
      await rm(folder, { recursive: true, force: true });
      effect("file", "remove the folder of a pulled adapter");
    }
  }

  /**
   * Removes every file but those to keep and young ones, which somebody is about to need; anything else can be fetched again.
   * @param over  of a round that has ended, removed at once unless they are to be kept: rounds of a few minutes would leave an hour's adapters
   */
  async prune(keep: ReadonlySet<string>, over: ReadonlySet<string>, nowMs: number): Promise<void> {
    const [kept, ended] = [keep, over].map((digests) => new Set([...digests].map(fileName))) as [
      Set<string>,
      Set<string>,
    ];
    for (const name of await readdir(this.#folder)) {
      if (!name.endsWith(".safetensors") || kept.has(name)) continue;
      const file = join(this.#folder, name);
      if (!ended.has(name) && nowMs - (await stat(file)).mtimeMs <= YOUNG_MS) continue;
      await rm(file, { force: true });
      effect("file", "remove an adapter");
    }
  }
}

function fileName(digest: string): string {
  return `${digest.replace(/^sha256:/, "")}.safetensors`;
}
