"""
The ONNX graph of a base model: traced by torch.export, stripped of what depends on time and place, written with its weights beside.

Holds: float32 throughout. Equal models, modules and library versions make equal bytes: nothing that names a file, a line or a
folder of this machine stays in the graph.
Does not: judge the graph (check.py) or choose where it goes (place.py).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..exits import TaskNotUnderstoodError
from ..loss import Batch
from ..model import first_line
from .graph import INPUTS, OUTPUTS, GateGraph

if TYPE_CHECKING:
    import onnx_ir
    from peft import PeftModel

FORMAT = "rondo-onnx-gate/1"
"""A change of the inputs, the outputs or their meaning is another number."""
OPSET = 20
"""Shown to run in onnxruntime and in onnxruntime-node; a higher one brings new operators, and needs to be shown again."""


@dataclass(frozen=True)
class Origin:
    """What a graph was made of. digest: of the weights, as in Federation.spec.baseModel; max_length: tokens, where the base has a bound."""

    digest: str
    target_modules: tuple[str, ...]
    max_length: int | None

    def properties(self, names: Sequence[str]) -> dict[str, str]:
        """metadata_props of the file; lists as JSON."""
        import peft
        import transformers

        return {
            "rondo.format": FORMAT,
            "rondo.baseModelDigest": self.digest,
            "rondo.targetModules": json.dumps(self.target_modules),
            "rondo.adapterInputs": json.dumps(list(names)),
            "rondo.maxLength": json.dumps(self.max_length),
            "rondo.dtype": "float32",
            "rondo.torch": torch.__version__,
            "rondo.transformers": transformers.__version__,
            "rondo.peft": peft.__version__,
        }


def trace(model: "PeftModel", adapter: Mapping[str, torch.Tensor], batch: Batch, origin: Origin) -> "onnx_ir.Model":
    """
    Args:
        model: of scaling 1, on the processor, float32.
        adapter: by PEFT's names; as an example of shapes, like batch. The order of the names is the order of the inputs.

    Raises:
        TaskNotUnderstoodError: PyTorch cannot trace this kind of model.
    """
    names = list(adapter)
    kind = model.get_base_model().config.model_type
    shapes = dynamic_shapes(names, origin.max_length)
    example = (batch.tokens, batch.attention, batch.labels, torch.tensor(1.0), *adapter.values())
    try:
        program = torch.onnx.export(
            GateGraph(model, names).eval(),
            example,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=[*INPUTS, *names],
            output_names=list(OUTPUTS),
            opset_version=OPSET,
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        raise refuse(kind, first_line(error.__cause__ or error)) from None
    assert program is not None
    require_dynamic(program.model, kind, [*shapes[:-1], *shapes[-1]])
    return tidied(program.model, origin.properties(names))


def refuse(kind: str, reason: str) -> TaskNotUnderstoodError:
    return TaskNotUnderstoodError(
        f"PyTorch cannot export a model of type {kind} to ONNX ({reason}); let participants evaluate instead (spec.evaluation.federated)"
    )


def require_dynamic(model: "onnx_ir.Model", kind: str, axes: Sequence[Mapping[int, Any]]) -> None:
    """A model that loops over tokens in Python is traced all the same, for the example's length alone: the exporter gives up the axis."""
    for value, dynamic in zip(model.graph.inputs, axes, strict=True):
        for axis, dim in dynamic.items():
            if value.shape is None or isinstance(value.shape[axis], int):
                raise refuse(kind, f"the trace holds for one {dim.__name__} alone")


def dynamic_shapes(names: Sequence[str], max_length: int | None) -> tuple[Any, ...]:
    batch = torch.export.Dim("batch", min=1)
    length = torch.export.Dim("length", min=2, max=max_length)
    rank = torch.export.Dim("rank", min=1)
    of_adapter = tuple({0: rank} if name.endswith("lora_A.weight") else {1: rank} for name in names)
    return ({0: batch, 1: length}, {0: batch, 1: length}, {0: batch, 1: length}, {}, of_adapter)


def tidied(model: "onnx_ir.Model", properties: Mapping[str, str]) -> "onnx_ir.Model":
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    # The exporter notes stack traces, which hold this machine's paths, on every node.
    ClearMetadataAndDocStringPass()(model)
    model.metadata_props.clear()
    model.metadata_props.update(properties)
    return model


def write(model: "onnx_ir.Model", file: Path, progress: Callable[[int, int], None]) -> None:
    """The graph into file, its weights into data_name(file) beside it: protobuf ends at 2 GB. progress: tensors written, of how many."""
    import onnx_ir

    onnx_ir.save(model, file, external_data=data_name(file), callback=lambda _tensor, info: progress(info.index + 1, info.total))


def data_name(file: Path) -> str:
    return f"{file.name}.data"
