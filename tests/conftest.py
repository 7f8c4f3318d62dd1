"""For all tests: nothing that they import reports to its maker, and no property test fails for being slow."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

import latebolt  # noqa: F401 - it switches ONNX Runtime's reports off

# A deadline judges the machine, which others may keep busy; what hangs, the timeout of every test ends.
settings.register_profile("latebolt", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("latebolt")
