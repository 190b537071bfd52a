"""Short vectors as values in compiled code: sixteen lanes that stay in registers.

Left to itself the compiler vectorises a loop only where it can prove that no two arrays overlap,
which in a network of many small matrices it can't. Code written with these values is vector code
whatever surrounds it. Each becomes one or more registers, as the machine has them.

Functions that use :func:`silu` must be compiled without the fast-math flag ``reassoc``.
"""

from __future__ import annotations

import math
import operator
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import (
    intrinsic,
    models,
    overload,
    register_model,
)
from numpy.polynomial import Chebyshev, Polynomial

_intrinsic: Any = intrinsic

LANES = 16
"""Numbers of a vector."""


class _Vector(types.Type):
    """Type of a vector of float32 or float64."""

    def __init__(self, scalar: Any) -> None:
        self.scalar = scalar
        super().__init__(name=f"vector{LANES}({scalar})")


_VECTORS = {scalar: _Vector(scalar) for scalar in (types.float32, types.float64)}


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Any) -> None:
        kind = ir.VectorType(_element(vector), LANES)
        super().__init__(manager, vector, kind)  # type: ignore[no-untyped-call]


def _element(vector: Any) -> Any:
    return ir.FloatType() if vector.scalar is types.float32 else ir.DoubleType()


def _spread(builder: Any, value: Any) -> Any:
    """Copy a scalar into every lane."""
    kind = ir.VectorType(value.type, LANES)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, _int(0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, one, mask)


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    name = "llvm.fmuladd.v16f32" if a.type.element == ir.FloatType() else "llvm.fmuladd.v16f64"
    kind = ir.FunctionType(a.type, [a.type] * 3)
    find: Any = cgutils.get_or_insert_function
    return builder.call(find(builder.module, kind, name), [a, b, c])


def _int(value: int) -> Any:
    return ir.Constant(ir.IntType(32), value)


def _place(context: Any, builder: Any, array_type: Any, array: Any, index: Any, vector: Any) -> Any:
    """Pointer to sixteen numbers of a one-dimensional array, from an index on."""
    view = context.make_array(array_type)(context, builder, array)
    first = builder.gep(view.data, [index])
    return builder.bitcast(first, context.get_value_type(vector).as_pointer())


@_intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """Sixteen numbers of a contiguous one-dimensional array, from an index on; unchecked."""
    vector = _VECTORS[array.dtype]

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _place(context, builder, signature.args[0], args[0], args[1], vector)
        return builder.load(place, align=array.dtype.bitwidth // 8)

    return vector(array, types.intp), codegen


@_intrinsic
def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Write a vector into a contiguous one-dimensional array, from an index on; unchecked."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _place(context, builder, signature.args[0], args[0], args[1], value)
        builder.store(args[2], place, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@_intrinsic
def fill(typing: Any, scalar: Any) -> Any:
    """Vector of one number."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _spread(builder, args[0])

    return _VECTORS[scalar](scalar), codegen


@_intrinsic
def entry(typing: Any, array: Any, index: Any) -> Any:
    """Vector of one number of a contiguous one-dimensional array; unchecked."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, args[0])
        return _spread(builder, builder.load(builder.gep(view.data, [args[1]])))

    return _VECTORS[array.dtype](array, types.intp), codegen


@_intrinsic
def constant(typing: Any, like: Any, scalar: Any) -> Any:
    """Vector of one number, rounded to the precision of another vector."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _spread(builder, context.cast(builder, args[1], types.float64, like.scalar))

    return like(like, types.float64), codegen


@_intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """``a b + c``, in one instruction where the machine has one."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _multiply_add(builder, *args)

    return a(a, a, a), codegen


@_intrinsic
def total(typing: Any, vector: Any) -> Any:
    """Sum of all lanes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value, width = args[0], LANES
        while width > 1:
            width //= 2
            lanes = ir.VectorType(ir.IntType(32), width)
            low = ir.Constant(lanes, list(range(width)))
            high = ir.Constant(lanes, list(range(width, 2 * width)))
            value = builder.fadd(
                builder.shuffle_vector(value, value, low),
                builder.shuffle_vector(value, value, high),
            )
        return builder.extract_element(value, _int(0))

    return vector.scalar(vector), codegen


@_intrinsic
def silu(typing: Any, value: Any) -> Any:
    """``x / (1 + exp(-x))`` to the rounding of its precision; not a number stays so."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        one = ir.Constant(args[0].type, [1.0] * LANES)
        down = _exponential(builder, value, builder.fneg(args[0]))
        return builder.fdiv(args[0], builder.fadd(one, down))

    return value(value), codegen


@_intrinsic
def sigmoid(typing: Any, value: Any) -> Any:
    """``1 / (1 + exp(-x))`` to the rounding of its precision; what is not a number gives none."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        one = ir.Constant(args[0].type, [1.0] * LANES)
        down = _exponential(builder, value, builder.fneg(args[0]))
        share = builder.fdiv(one, builder.fadd(one, down))
        sane = builder.fcmp_ordered("ord", args[0], args[0])
        return builder.select(sane, share, args[0])

    return value(value), codegen


@_intrinsic
def log(typing: Any, value: Any) -> Any:
    """Natural logarithm of positive normal numbers to a few roundings."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _logarithm(builder, value, args[0])

    return value(value), codegen


@_intrinsic
def root(typing: Any, value: Any) -> Any:
    """Square root; none of what is negative."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        name = "llvm.sqrt.v16f32" if value.scalar is types.float32 else "llvm.sqrt.v16f64"
        kind = ir.FunctionType(args[0].type, [args[0].type])
        find: Any = cgutils.get_or_insert_function
        return builder.call(find(builder.module, kind, name), [args[0]])

    return value(value), codegen


def _halves_swapped(builder: Any, value: Any) -> Any:
    half = LANES // 2
    order = [*range(half, LANES), *range(half)]
    return builder.shuffle_vector(
        value, value, ir.Constant(ir.VectorType(ir.IntType(32), LANES), order)
    )


@_intrinsic
def swap(typing: Any, value: Any) -> Any:
    """Both halves of a vector, swapped."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _halves_swapped(builder, args[0])

    return value(value), codegen


@_intrinsic
def turn(typing: Any, value: Any) -> Any:
    """Eight complex numbers, real parts in the first half, times the imaginary unit."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        half = LANES // 2
        sign = ir.Constant(args[0].type, [-1.0] * half + [1.0] * half)
        return builder.fmul(_halves_swapped(builder, args[0]), sign)

    return value(value), codegen


@_intrinsic
def above(typing: Any, value: Any, bound: Any, yes: Any, no: Any) -> Any:
    """``yes`` in lanes where ``value > bound``, else ``no``; what is not a number is not above."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[2], args[3])

    return value(value, value, value, value), codegen


class _Format(NamedTuple):
    """Of floating-point numbers: bits, bits behind the point; and what exp and log need.

    ``ln2``: in two parts, the first so short that small multiples of it are exact; ``reach``:
    largest argument; ``powers``: coefficients of exp within half an octave of 1; ``terms`` of the
    series for log there.
    """

    bits: int
    mantissa: int
    ln2: tuple[float, float]
    reach: float
    powers: tuple[float, ...]
    terms: int


def _interpolated(degree: int) -> tuple[float, ...]:
    """Coefficients of exp by interpolation at Chebyshev points: two less than those of the series.

    Good for single precision; for double, rounding of the coefficients would show.
    """
    half = math.log(2.0) / 2.0
    points = Chebyshev.interpolate(np.exp, degree, domain=[-half, half])
    return tuple(float(c) for c in points.convert(kind=Polynomial).coef)


_FORMATS = {
    types.float32: _Format(
        32, 23, (0.693359375, -2.1219444005469057e-4), 87.0, _interpolated(5), 5
    ),
    types.float64: _Format(
        64, 52, (0.693145751953125, 1.4286068203094172321e-6), 700.0,
        tuple(1.0 / math.factorial(order) for order in range(14)), 11,
    ),
}  # fmt: skip


def _exponential(builder: Any, vector: Any, x: Any) -> Any:
    """``2^n exp(r)`` with ``x = n ln 2 + r``: no table, no branch, no conversion."""
    form, kind = _FORMATS[vector.scalar], x.type

    def every(number: float) -> Any:
        return ir.Constant(kind, [number] * LANES)

    for comparison, bound in ((">", every(form.reach)), ("<", every(-form.reach))):
        x = builder.select(builder.fcmp_ordered(comparison, x, bound), bound, x)
    # Added to this, a number rounds to the nearest whole one, which its last bits then hold.
    anchor = every(1.5 * 2.0**form.mantissa)
    shifted = _multiply_add(builder, x, every(1.0 / math.log(2.0)), anchor)
    count = builder.fsub(shifted, anchor)
    rest = _multiply_add(builder, count, every(-form.ln2[0]), x)
    rest = _multiply_add(builder, count, every(-form.ln2[1]), rest)
    *lower, value = map(every, form.powers)
    for coefficient in reversed(lower):
        value = _multiply_add(builder, value, rest, coefficient)
    # A power of two is added to the exponent: near 1 and within reach it has room.
    whole = ir.VectorType(ir.IntType(form.bits), LANES)
    power = builder.shl(builder.bitcast(shifted, whole), _whole(form, form.mantissa))
    return builder.bitcast(builder.add(builder.bitcast(value, whole), power), kind)


def _logarithm(builder: Any, vector: Any, x: Any) -> Any:
    """``n ln 2 + 2 artanh((m - 1) / (m + 1))`` with ``x = 2^n m``, m within half an octave of 1."""
    form, kind = _FORMATS[vector.scalar], x.type
    whole = ir.VectorType(ir.IntType(form.bits), LANES)

    def every(number: float) -> Any:
        return ir.Constant(kind, [number] * LANES)

    one, bits = every(1.0), builder.bitcast(x, whole)
    # Less the bits of sqrt(1/2), the exponent is n and what is left of it that of m.
    low = int(np.sqrt(0.5).astype(f"f{form.bits // 8}").view(f"i{form.bits // 8}"))
    shifted = builder.sub(bits, _whole(form, low))
    count = builder.ashr(shifted, _whole(form, form.mantissa))
    size = builder.sub(bits, builder.shl(count, _whole(form, form.mantissa)))
    m = builder.bitcast(size, kind)
    n = builder.sitofp(count, kind)
    s = builder.fdiv(builder.fsub(m, one), builder.fadd(m, one))
    square = builder.fmul(s, s)
    value = every(2.0 / (2 * form.terms - 1))
    for term in range(form.terms - 2, -1, -1):
        value = _multiply_add(builder, value, square, every(2.0 / (2 * term + 1)))
    small = _multiply_add(builder, n, every(form.ln2[1]), builder.fmul(value, s))
    return _multiply_add(builder, n, every(form.ln2[0]), small)


def _whole(form: _Format, number: int) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(form.bits), LANES), [number] * LANES)


def _binary(name: str) -> Any:
    def typed(typing: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, name)(*args)

        return a(a, b), codegen

    return _intrinsic(typed)


def _bound(comparison: str) -> Any:
    def typed(typing: Any, value: Any, bound: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            beyond = builder.fcmp_ordered(comparison, args[0], args[1])
            return builder.select(beyond, args[1], args[0])

        return value(value, bound), codegen

    return _intrinsic(typed)


_add, _subtract, _multiply, _divide = map(_binary, ("fadd", "fsub", "fmul", "fdiv"))

at_least = _bound("<")
"""``at_least(value, bound)``: the larger of the two in each lane; not a number stays so."""

at_most = _bound(">")
"""``at_most(value, bound)``: the smaller of the two in each lane; not a number stays so."""


def _operator(symbol: Any, compiled: Any) -> None:
    """Let an operator of Python stand for an operation on vectors."""

    def typed(a: Any, b: Any) -> Any:
        def run(a, b):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return compiled(a, b)

        return run if isinstance(a, _Vector) and a == b else None

    overload(symbol, strict=False)(typed)


_operator(operator.add, _add)
_operator(operator.sub, _subtract)
_operator(operator.mul, _multiply)
_operator(operator.truediv, _divide)
