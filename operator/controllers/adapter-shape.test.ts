import { expect, test } from "vitest";
import { shapeProblem } from "./adapter-shape.ts";

const tensors = ["q_proj", "v_proj"].flatMap((module) =>
  ["A", "B"].map((half) => ({ name: `base_model.model.model.layers.0.self_attn.${module}.lora_${half}.weight` })),
);

test.each([
  { says: "the modules that are named", target: ["q_proj", "v_proj"], problem: undefined },
  { says: "a longer end of the path", target: ["self_attn.q_proj", "v_proj"], problem: undefined },
  {
    says: "a module that is missing",
    target: ["q_proj", "v_proj", "o_proj"],
    problem: /no weights for targetModules o_proj/,
  },
  {
    says: "a module that nobody named",
    target: ["q_proj"],
    problem: /weights for .*v_proj, which targetModules does not name/,
  },
  { says: "half a name", target: ["proj"], problem: /no weights for targetModules proj/ },
])("$says", ({ target, problem }) => {
  if (problem) expect(shapeProblem(tensors, target)).toMatch(problem);
  else expect(shapeProblem(tensors, target)).toBeUndefined();
});
