/** The image's own start script before another program: what is measured runs under the flags and the allocator that users have. */
import { readFileSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";

const SCRIPT = join(import.meta.dirname, "../../images/operator/rondo");
const IN_IMAGE = "/opt/rondo/main.js";

/** For the script to find the Node that runs the benchmark. */
export const PATH = [dirname(process.execPath), process.env.PATH].join(delimiter);

/**
 * @param program  a bundled file; the script is written beside it
 * @returns the script; its first argument is `operator` or `agent`, as for `rondo`
 */
export function launcher(program: string): string {
  const script = readFileSync(SCRIPT, "utf8");
  if (!script.includes(IN_IMAGE))
    throw new Error(`${SCRIPT} does not start ${IN_IMAGE} any more; say here what it starts`);
  const file = `${program}.sh`;
  writeFileSync(
    file,
    script.replace(IN_IMAGE, () => `"${program}"`),
    { mode: 0o755 },
  );
  return file;
}
