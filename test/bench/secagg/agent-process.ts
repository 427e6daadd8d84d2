/** The agent's part in a process of its own: each message asks for one masked vector and is answered with what it took. */
import { type MaskingOptions, makeMaskedVector } from "../../../operator/agent/masking.ts";
import { observed } from "./observe.ts";

process.on("message", (options: MaskingOptions) => {
  void observed(() => makeMaskedVector(options)).then(({ result, ...seen }) =>
    process.send!({ result: result.maskingSeconds, ...seen }),
  );
});
