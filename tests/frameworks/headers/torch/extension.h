// What the Stanford library's extensions need of torch's own header of this name, which takes a compiler half a
// minute: tensors, threads, Python. conftest.py puts this folder before torch's.
#pragma once
#include <ATen/Parallel.h>
#include <torch/csrc/utils/pybind.h>
#include <torch/types.h>

#include <queue>
