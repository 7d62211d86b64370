"""What holds for all tests: how threads wait, and the engines that are started once."""

import os

import hypothesis
import pytest

from tests.engines import REAL, SUBJECTS

# A thread of a model that waits for the others spins unless it is told to sleep. On a busy machine it then takes the
# very core that the others need: a training of seconds took two minutes. Read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# What has to be quick is timed by its own test: a busy machine fails no other.
hypothesis.settings.register_profile("bethink", deadline=None)
hypothesis.settings.load_profile("bethink")


@pytest.fixture(scope="session")
def policy_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("policy")


@pytest.fixture(scope="session", params=["scripted", "transformers", "replay", *REAL])
def subject(request, policy_folder):
    return SUBJECTS[request.param](policy_folder)


@pytest.fixture(scope="session")
def opened(subject):
    with subject.open() as opened:
        yield opened
