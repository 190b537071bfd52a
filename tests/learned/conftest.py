"""Tiny surfaces, networks and curricula."""

import pytest

from holobeam.learned.curriculum import Curriculum

from .small_training import scenario


@pytest.fixture
def curriculum():
    return Curriculum((scenario(),), batch=16, seed=3)
