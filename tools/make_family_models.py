# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/families: one tiny random model of each row of family_models.py, the truth of tests/test_models.c.
Run: PYTHON tools/make_family_models.py [names]; needs torch and transformers (5.x) from PyPI."""
import pathlib
import sys

import transformers

from family_models import MODELS, make

transformers.utils.logging.disable_progress_bar()
out = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "families"
for seed, name in enumerate(MODELS):
    if not sys.argv[1:] or name in sys.argv[1:]:
        print(f"{name:20} float32 against float64: {make(out / name, name, seed):.2g}")
