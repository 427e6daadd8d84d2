"""
`rondo-trainer-check`: runs a trainer, ours or a foreign one, against fixtures and says which parts of docs/trainer.md it breaks.

Holds: the standard library and the openssl command alone, so that it runs where the image is built and not only where PyTorch is.
"""
