/**
 * The agent's TLS credential: its certificate and key, kept by a store that the agent supplies.
 * Holds: times are by the agent's own clock, counted from the moment of receipt, so that a wrong clock shortens or lengthens nothing.
 */

import { chmod, open, readFile, rename } from "node:fs/promises";
import { basename } from "node:path";
import { z } from "zod";
import { effect } from "../fault-injection.ts";

export const credentialSchema = z.strictObject({
  certificatePem: z.string(),
  /** A secret: 0600 or a Secret. */
  privateKeyPem: z.string(),
  /** Two thirds of its life. */
  renewAtMs: z.int(),
  expiresAtMs: z.int(),
});
export type Credential = z.infer<typeof credentialSchema>;

export interface CredentialStore {
  /** undefined: none yet, or none that can be read; the client then gets a new one. */
  load(): Promise<Credential | undefined>;
  /** Durable when it resolves. */
  save(credential: Credential): Promise<void>;
}

/** A store in one file, 0600, replaced as a whole. */
export function fileCredentialStore(path: string): CredentialStore {
  return {
    async load() {
      const text = await readFile(path, "utf8").catch(() => undefined);
      if (text === undefined) return undefined;
      try {
        return credentialSchema.parse(JSON.parse(text));
      } catch {
        return undefined; // damaged: a certificate is got anew, nothing else depends on it
      }
    },
    async save(credential) {
      const file = await open(`${path}.new`, "w", 0o600);
      try {
        await file.writeFile(JSON.stringify(credential));
        await file.sync();
        effect("file", `write ${basename(path)}.new`);
      } finally {
        await file.close();
      }
      await chmod(`${path}.new`, 0o600);
      await rename(`${path}.new`, path);
      effect("file", `rename ${basename(path)}`);
    },
  };
}
