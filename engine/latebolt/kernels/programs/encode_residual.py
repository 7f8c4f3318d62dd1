"""Residual codes of vectors whose centroids are known, and the two factors that fit each best.

Every addition to an index of 1, 2 or 4 bits runs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from latebolt.kernels.programs.parts import inline, load_f32, load_i64, load_u8, store_u8
from latebolt.kernels.shapes import N_FACTORS
from latebolt.kernels.vector.conversions import sqrt_f32
from latebolt.kernels.vector.memory import store_f32

# Of fitting the width of a residual to its codes: at 2 bits the first adds 0.0002 of cosine, the second
# 0.00003, a third nothing.
ROUNDS = 2
# How much more an error of a vector's length counts, which changes all its scores one way, than one of its
# direction: at 1 bit 0 leaves the worst hundredth 0.028 off, 32 leaves 0.014, and the cosine stays the same.
LENGTH_COUNTS = np.float32(32)


def make_encode_residual(isa: str, dim: int, bits: int) -> Callable[..., None]:
    n_bytes, n_edges = dim * bits // 8, 2**bits - 1
    zero, one = np.float32(0), np.float32(1)
    least = np.float32(1e-6)

    @inline
    def weight_of(x: Any, edges: int, steps: int) -> Any:
        """The weight nearest to x: the least one, and each step up whose edge lies below."""
        weight = load_f32(steps)
        for e in range(n_edges):
            weight += load_f32(steps + 4 * (e + 1)) if x > load_f32(edges + 4 * e) else zero
        return weight

    def encode_residual(  # type: ignore[no-untyped-def]
        values, cells, centroids, spread, edges, steps, factors, pairs, codes, norms, scratch, first, last
    ):
        """Values float32 [n][dim], cells int64 [n], centroids float32 [n_centroids][dim], spread float32
        [dim], edges float32 [2**bits - 1] between weights, steps float32 [2**bits + 1], the least weight,
        from each to the next, and the unit of a residual's width; factors float32 [N_FACTORS][2] or 0; pairs
        float32 [n][2], the best factors of centroid and residual; codes u8 [n][dim * bits / 8] and, where
        there are factors, norms u8 [n].

        scratch: float32 [3][dim] and [N_FACTORS], u8 [dim]."""
        scaled = scratch
        centre = scaled + 4 * dim
        residual = centre + 4 * dim
        errors = residual + 4 * dim
        plain = errors + 4 * N_FACTORS
        for i in range(first, last):
            value, cell = values + 4 * i * dim, centroids + 4 * load_i64(cells + 8 * i) * dim
            square = zero
            for d in range(dim):
                c = load_f32(cell + 4 * d)
                r = load_f32(value + 4 * d) - c
                x = r / load_f32(spread + 4 * d)
                store_f32(centre + 4 * d, c)
                store_f32(residual + 4 * d, r)
                store_f32(scaled + 4 * d, x)
                square += x * x
            width = sqrt_f32(square / np.float32(dim)) / load_f32(steps + 4 * (n_edges + 1))
            for _ in range(ROUNDS):
                inverse = one / (width if width > least else least)
                along, length = zero, zero
                for d in range(dim):
                    x = load_f32(scaled + 4 * d) * inverse
                    w = weight_of(x, edges, steps) * load_f32(spread + 4 * d)
                    along += load_f32(residual + 4 * d) * w
                    length += w * w
                width = along / length if length > zero else width
            inverse = one / (width if width > least else least)
            cc, cw, ww, vc, vw = zero, zero, zero, zero, zero
            for d in range(dim):
                x = load_f32(scaled + 4 * d) * inverse
                w = weight_of(x, edges, steps) * load_f32(spread + 4 * d)
                c = load_f32(centre + 4 * d)
                v = c + load_f32(residual + 4 * d)
                cc += c * c
                cw += c * w
                ww += w * w
                vc += v * c
                vw += v * w
            for d in range(dim):
                x = load_f32(scaled + 4 * d) * inverse
                code = 0
                for e in range(n_edges):
                    code += 1 if x > load_f32(edges + 4 * e) else 0
                store_u8(plain + d, code)
            for j in range(n_bytes):
                packed = 0
                for field in range(8 // bits):
                    packed |= load_u8(plain + field * n_bytes + j) << (bits * field)
                store_u8(codes + i * n_bytes + j, packed)
            # The direction of share * centroid + norm * weights that is nearest to the vector's, unit length.
            share, norm = one, zero
            area = cc * ww - cw * cw
            if area > least * cc * ww:
                share, norm = (vc * ww - vw * cw) / area, (vw * cc - vc * cw) / area
            size = share * share * cc + norm * norm * ww + np.float32(2) * share * norm * cw
            size = one / sqrt_f32(size) if size > zero else one
            share *= size
            norm *= size
            store_f32(pairs + 8 * i, share)
            store_f32(pairs + 8 * i + 4, norm)
            if factors != 0:
                along_a, along_b = share * cc + norm * cw, share * cw + norm * ww
                for k in range(N_FACTORS):
                    a, b = share - load_f32(factors + 8 * k), norm - load_f32(factors + 8 * k + 4)
                    length = a * along_a + b * along_b
                    error = a * a * cc + b * b * ww + np.float32(2) * a * b * cw
                    store_f32(errors + 4 * k, error + LENGTH_COUNTS * length * length)
                best = load_f32(errors)
                for k in range(N_FACTORS):
                    error = load_f32(errors + 4 * k)
                    best = error if error < best else best
                k = 0
                while k < N_FACTORS - 1 and load_f32(errors + 4 * k) != best:
                    k += 1
                store_u8(norms + i, k)

    return encode_residual
