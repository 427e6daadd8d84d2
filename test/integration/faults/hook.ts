/**
 * Goes into every entry of the fault-injection build (scripts/bundle.ts --fault-injection): lists the process's effects in `effects.txt` of the
 * folder that $RONDO_FAULTS_FOLDER names, one line each, and kills the process right after the one that `order.json` there asks for.
 * Holds: an order to kill is carried out once: it is taken away before the process dies, so that its next life is left alone.
 */
import { appendFileSync, readFileSync, renameSync } from "node:fs";
import { join } from "node:path";
import { install } from "../../../operator/fault-injection.ts";
import { nameOf, type Order } from "./names.ts";

const folder = process.env.RONDO_FAULTS_FOLDER;

/** Of this thread; effects of one name all happen in threads of one kind. */
let counted = new Map<string, number>();
let current = "";

if (folder !== undefined) {
  install((kind, what) => {
    const order = read(join(folder, "order.json"));
    if (order === undefined) return;
    if (order.id !== current) counted = new Map();
    current = order.id;
    const effect = nameOf(kind, what, order.federation);
    const nth = (counted.get(effect) ?? 0) + 1;
    counted.set(effect, nth);
    appendFileSync(join(folder, "effects.txt"), `${order.id}\t${nth}\t${effect}\n`);
    if (order.kill?.effect === effect && order.kill.nth === nth) die(folder, order);
  });
}

function read(file: string): Order | undefined {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Order;
  } catch {
    return undefined; // none yet
  }
}

function die(at: string, { id }: Order): void {
  renameSync(join(at, "order.json"), join(at, `killed-${id}.json`));
  process.kill(process.pid, "SIGKILL");
  // Not one instruction more, whichever thread the signal reaches first.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}
