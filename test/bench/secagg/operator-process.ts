/** The operator's part in a process of its own: each message brings the vectors and shares of one cohort and asks for the candidate. */

import { SecureSum } from "../../../operator/controllers/round/secure-sum.ts";
import type { Input, SecureSumOptions } from "../../../operator/controllers/round/secure-sum-messages.ts";
import type { Complete } from "../../../operator/secagg/coordinator/states.ts";
import { observed } from "./observe.ts";

export interface UnmaskRequest {
  options: SecureSumOptions;
  state: Complete;
  inputs: Input[];
  parentFile: string;
  outFile: string;
}

export interface UnmaskSeconds {
  /** All vectors from the spool into the sum; while they arrive, outside of what follows. */
  add: number;
  /** From the request to the worker's answer: secrets found, masks off, weight and metrics decoded. */
  unmask: number;
  /** Parent + mean, written, hashed and synced. */
  candidate: number;
}

async function unmask({ options, state, inputs, parentFile, outFile }: UnmaskRequest): Promise<UnmaskSeconds> {
  let changed = Promise.withResolvers<void>();
  const sum = new SecureSum(options, {
    changed() {
      changed.resolve();
      changed = Promise.withResolvers();
    },
    diskFull() {},
    again(problem) {
      throw new Error(problem);
    },
  });
  const until = async (isTrue: () => boolean) => {
    while (!isTrue()) {
      if (sum.view().problem) throw new Error(sum.view().problem);
      await changed.promise;
    }
  };
  const laps = [performance.now()];
  const lap = () => {
    laps.push(performance.now());
    return (laps.at(-1)! - laps.at(-2)!) / 1000;
  };
  for (const input of inputs) sum.add({ cohort: 0, ...input });
  await until(() => sum.view().added.length === inputs.length);
  const add = lap();
  sum.unmask(0, state, inputs);
  await until(() => sum.view().unmasked.length + sum.view().lost.length === 1);
  if (sum.view().lost[0]) throw new Error(sum.view().lost[0]!.message);
  const unmaskSeconds = lap();
  await sum.candidate(parentFile, outFile);
  const candidate = lap();
  await sum.close();
  return { add, unmask: unmaskSeconds, candidate };
}

process.on("message", (request: UnmaskRequest) => {
  void observed(() => unmask(request)).then((answer) => process.send!(answer));
});
