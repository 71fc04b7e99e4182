"""Benchmarks: each module is one program (`make bench BENCH=name`) that measures its floor in the same run.

Imported by nothing. Load comes from the program itself or `../shared/data`; figures go to the terminal, the
last line being one JSON object (`tests.bench.figures`).
"""
