"""What the fork server of `tests.warm` imports, once: all that a server, its children and a command use."""

import gc
from importlib import import_module

gc.disable()
for name in (
    "api.cli.serve",
    "api.serving",
    "anthropic",
    "openai",
    "scipy.optimize",
    "sklearn.feature_extraction.text",
    "sklearn.linear_model",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "sklearn.tree",
):
    import_module(name)
# What is here is never garbage; a fork whose collector walked through it would get its own copy of it all.
gc.freeze()
gc.enable()
