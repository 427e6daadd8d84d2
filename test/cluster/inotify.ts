/**
 * A kubelet has six inotify instances, an API server three, and the kernel's default allows 128 for all of root: 14 clusters, in whatever sets.
 * One cluster more, and its kubelet ends with "inotify_init: too many open files".
 */
import { readFileSync, writeFileSync } from "node:fs";

const FILE = "/proc/sys/fs/inotify/max_user_instances";
/** A hundred clusters; an instance that nobody has costs nothing. */
const ENOUGH = 1024;

/** Raises the machine's limit until its next boot; where it may not, clusters run as long as the limit lasts. */
export function raiseInotifyLimit(): void {
  try {
    if (Number(readFileSync(FILE, "utf8")) < ENOUGH) writeFileSync(FILE, String(ENOUGH));
  } catch {
    // read-only in some containers, and few clusters do without
  }
}
