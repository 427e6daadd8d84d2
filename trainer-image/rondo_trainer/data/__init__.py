"""
The site's records, from its files to rows of tokens (docs/trainer.md); nothing here leaves the site.

In reading order: records.py (what a record is, and its hash), jsonl.py, columns.py, parquet.py and dataset_folder.py (where records
stand), reading.py (all of a folder), split.py (which are held out), tokenise.py and tokenised.py (their tokens), packing.py and order.py
(what a step is given), report.py (what became of them all, for people). Only order.py needs torch.
"""
