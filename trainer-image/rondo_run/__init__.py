"""
`rondo-run CMD…`: a *file* contract of the task API, for images that know nothing of Rondo (docs/trainer.md).

Holds: the standard library alone, on Python 3.9 or later, so that one file (bundle.py) runs in any image. Of rondo_trainer it takes
what must not drift, client.py and exits.py, and nothing else.
"""
