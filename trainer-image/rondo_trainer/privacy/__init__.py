"""
Record-level differential privacy of a trainer: see README.md in this folder for what each file is for and what ε covers.

Imported by nothing at import time: settings.py alone is light enough for task.py, the others need numpy, scipy, PyTorch or Opacus.
"""
