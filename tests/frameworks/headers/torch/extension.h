// What the Stanford library's extensions need of torch's own header of this name, which takes a compiler half a
// minute, and what it includes for them a quarter of that: tensors, the number of threads, Python. conftest.py puts
// this folder before torch's.
#pragma once
#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros_ops.h>
#include <pybind11/pybind11.h>

#include <cassert>
#include <cmath>
#include <cstring>
#include <queue>
#include <unordered_set>

namespace at {
TORCH_API int get_num_threads();
} // namespace at

namespace torch {
using namespace at;
constexpr auto kUInt8 = at::kByte, kInt32 = at::kInt, kInt64 = at::kLong;
constexpr auto kFloat16 = at::kHalf, kFloat32 = at::kFloat;

// As ATen/ops/zeros.h has it, with the whole of ATen's context.
inline Tensor zeros(IntArrayRef size, TensorOptions options) {
    return at::_ops::zeros::call(
        c10::fromIntArrayRefSlow(size), c10::optTypeMetaToScalarType(options.dtype_opt()),
        options.layout_opt(), options.device_opt(), options.pinned_memory_opt());
}
} // namespace torch

namespace py = pybind11;

// Tensors as Python has them: libtorch_python's own, declared as in torch/csrc/utils/pybind.h.
namespace pybind11::detail {
template <>
struct __attribute__((visibility("default"))) type_caster<at::Tensor> {
    PYBIND11_TYPE_CASTER(at::Tensor, _("torch.Tensor"));
    bool load(handle src, bool);
    static handle cast(const at::Tensor& src, return_value_policy, handle);
};
} // namespace pybind11::detail
