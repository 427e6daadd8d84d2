/**
 * The clusters that all end-to-end tests of failures share (failures/federation.ts) are made by the first of them; here they go, before and
 * after. RONDO_E2E_KEEP leaves them for a look, and for another run that finds them installed.
 */
import { removeAll } from "./failures/federation.ts";

export default async function setup(): Promise<() => Promise<void>> {
  const remove = process.env.RONDO_E2E_KEEP ? async () => undefined : removeAll;
  await remove();
  return remove;
}
