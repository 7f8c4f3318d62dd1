// What the Stanford library's extensions need of torch's own header of this name, which takes a compiler half a
// minute, and torch/types.h alone a quarter of that: tensors, threads, Python. conftest.py puts this folder before
// torch's.
#pragma once
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/utils/pybind.h>

#include <queue>

namespace torch {
using namespace at;
constexpr auto kUInt8 = at::kByte, kInt32 = at::kInt, kInt64 = at::kLong;
constexpr auto kFloat16 = at::kHalf, kFloat32 = at::kFloat;
} // namespace torch
