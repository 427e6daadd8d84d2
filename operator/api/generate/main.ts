/** `make generate`: writes the files of files.ts. Run from anywhere; paths are the repository's. */
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { GENERATED_FOLDERS, generatedFiles } from "./files.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "../../..");
const files = generatedFiles();

for (const folder of GENERATED_FOLDERS) {
  mkdirSync(join(root, folder), { recursive: true });
  // A resource that is no longer there must not live on as a file.
  for (const name of readdirSync(join(root, folder))) {
    if (!files.has(`${folder}/${name}`)) rmSync(join(root, folder, name));
  }
}
for (const [path, text] of files) writeFileSync(join(root, path), text);
