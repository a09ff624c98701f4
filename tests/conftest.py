"""Settings shared by all tests."""

import os

from hypothesis import settings

# No deadline: a busy machine must not fail a test. The same examples in every run of continuous integration.
settings.register_profile("plansim", deadline=None, derandomize="CI" in os.environ, max_examples=60)
settings.load_profile("plansim")
