/** The committed WebAssembly is what its source compiles to. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { KERNEL_MODULE, kernelModule } from "./build-kernels.ts";

test("the generated kernels are up to date: `make generate` brings them there", async () => {
  expect(readFileSync(KERNEL_MODULE, "utf8")).toBe(await kernelModule());
});
