"""Tables that are committed come with their samples, and the samples give the tables again, byte for byte."""

from pathlib import Path

import pytest

from evals.reports.report import make_report, to_csv, to_markdown
from evals.store import read_config

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
STORES = sorted(path.parent for path in RESULTS.glob("*/run.json"))


def test_there_are_committed_stores():
    assert {"reference-8", "gsm8k-smollm2"} <= {folder.name for folder in STORES}


@pytest.mark.parametrize("folder", STORES, ids=lambda folder: folder.name)
def test_a_committed_table_is_what_its_samples_say(folder):
    report = make_report(folder)
    assert to_markdown(report) == (folder / "report.md").read_text()
    assert to_csv(report) == (folder / "report.csv").read_text()


@pytest.mark.parametrize("folder", STORES, ids=lambda folder: folder.name)
def test_a_committed_store_says_what_it_was_made_with(folder):
    record = read_config(folder)
    assert {"task", "model", "revision", "seed", "sampling", "data", "engine"} <= set(record["config"])
    for environment in record["environments"]:
        assert {"python", "machine", "numpy"} <= set(environment)
