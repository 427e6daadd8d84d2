"""
`rondo-export-onnx`: a base model as an ONNX graph whose LoRA adapter is an input, for the operator's evaluation gate.

Holds: one file scores every adapter of a federation, whatever its rank and alpha, in onnxruntime alone; nobody who scores needs
PyTorch. graph.py says what the graph computes, trace.py makes it, check.py compares it with PyTorch and PEFT, place.py keeps what
is unfinished out of sight, __main__.py reads the arguments and has the course of it.
"""
