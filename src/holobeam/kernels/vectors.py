"""Short vectors as values in compiled code: sixteen lanes that stay in registers.

Left to itself the compiler vectorises a loop only where it can prove that no two arrays overlap,
which in a network of many small matrices it can't. Code written with these values is vector code
whatever surrounds it. Each becomes one or more registers, as the machine has them.

Functions that use :func:`silu` must be compiled without the fast-math flag ``reassoc``.
"""

from __future__ import annotations

import operator
from math import factorial, log
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import (
    intrinsic,
    models,
    overload,
    register_model,
)

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


class _Format(NamedTuple):
    """Of floating-point numbers: bits, bits behind the point, bias; and what exp needs.

    ``ln2``: in two parts, the first so short that small multiples of it are exact; ``reach``:
    largest argument; ``degree``: terms of the series, within half an octave of 1.
    """

    bits: int
    mantissa: int
    bias: int
    ln2: tuple[float, float]
    reach: float
    degree: int


_FORMATS = {
    types.float32: _Format(32, 23, 127, (0.693359375, -2.1219444005469057e-4), 87.0, 7),
    types.float64: _Format(64, 52, 1023, (0.693145751953125, 1.4286068203094172321e-6), 700.0, 13),
}


def _exponential(builder: Any, vector: Any, x: Any) -> Any:
    """``2^n exp(r)`` with ``x = n ln 2 + r``: no table, no branch, no conversion."""
    form, kind = _FORMATS[vector.scalar], x.type

    def every(number: float) -> Any:
        return ir.Constant(kind, [number] * LANES)

    for comparison, bound in ((">", every(form.reach)), ("<", every(-form.reach))):
        x = builder.select(builder.fcmp_ordered(comparison, x, bound), bound, x)
    # Added to this, a number rounds to the nearest whole one, which its last bits then hold.
    anchor = every(1.5 * 2.0**form.mantissa)
    shifted = _multiply_add(builder, x, every(1.0 / log(2.0)), anchor)
    count = builder.fsub(shifted, anchor)
    rest = _multiply_add(builder, count, every(-form.ln2[0]), x)
    rest = _multiply_add(builder, count, every(-form.ln2[1]), rest)
    value = every(1.0 / factorial(form.degree))
    for order in range(form.degree - 1, -1, -1):
        value = _multiply_add(builder, value, rest, every(1.0 / factorial(order)))
    whole = ir.VectorType(ir.IntType(form.bits), LANES)
    power = builder.add(builder.bitcast(shifted, whole), ir.Constant(whole, [form.bias] * LANES))
    power = builder.shl(power, ir.Constant(whole, [form.mantissa] * LANES))
    return builder.fmul(value, builder.bitcast(power, kind))


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
