"""For all tests: nothing that they import reports to its maker, whatever is imported first."""

import latebolt  # noqa: F401 - it switches ONNX Runtime's reports off
