"""A short run of the decoder fuzzer with every test run; the long one is `make fuzz`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location("fuzz_decoders", Path(__file__).with_name("fuzz_decoders.py"))
assert _spec is not None
assert _spec.loader is not None
fuzz = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fuzz)


def test_mutated_frames_raise_only_what_decoders_may_raise():
    counts = fuzz.run(20_000, seed=20261124)
    assert all(row["refused"] > 0 for name, row in counts.items() if not name.endswith("extract"))  # extractors never raise
    assert counts["dlt645.decode"]["accepted"] > 10
    assert counts["cjt188.decode"]["accepted"] > 10
    assert counts["cjt188.inner"]["accepted"] > 0
