import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("BETHINK_DATA", Path(__file__).parents[2] / "shared" / "data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is no folder with the data sets: set BETHINK_DATA")


def data_file(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not there: set BETHINK_DATA to a folder that has it")
    return path
