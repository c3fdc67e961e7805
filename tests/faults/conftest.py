"""Runs that several tests compare with."""

import pytest

from tests.faults.campaign import Campaign


@pytest.fixture(scope="session")
def usl(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """An uninterrupted run of three epochs, and its first two in the folder `two`."""
    campaign = Campaign("usl", tmp_path_factory.mktemp("campaign"))
    done = campaign.run(campaign.scratch / "two", "--epochs", "2")
    assert done.code == 0, done.output
    return campaign
