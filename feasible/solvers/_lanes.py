"""Machine code for a traced function of scalars and horizons: one row of a batch per lane of a vector register.

`jax.make_jaxpr` gives the function as a list of elementwise operations, scans and while loops; here it is translated
to LLVM by llvmlite, with every scalar a vector of `WIDTH` rows and every `(T,)` array a block of T such vectors. One
loop body is then one stretch of straight-line vector code, which no fusion takes apart and which needs no compiler
at installation. The horizon T is an argument, so one program serves all of them.

A branch that depends on data is not in the language: rows of a vector go together. A while loop runs until no row
wants to go on, so its body must leave rows alone that are done.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import llvmlite
import llvmlite.binding as llvm
import numpy as np

from feasible._threads import cores, share
from feasible.solvers import _lanes_cache
from feasible.solvers._lanes_memory import HORIZON
from feasible.solvers._lanes_writer import Writer


class Program:
    """A compiled function.

    Args:
        function: of a pytree of scalars `()` and horizons `(T,)`, all of one float type, to such a pytree.
        example: its argument, of any values; horizons have the length `HORIZON`.
        dtype: float32 or float64.
        width: rows in a vector; None for as many as 64 bytes hold. Fewer serve a single row sooner.
        in_place: per leaf of the result the leaf of the argument that it overwrites, or None.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        example: Any,
        dtype: Any,
        width: int | None = None,
        in_place: Sequence[int] | None = None,
    ):
        self.dtype = np.dtype(dtype)
        self.width = width or 64 // self.dtype.itemsize
        with jax.enable_x64(self.dtype.itemsize == 8):
            blank = jax.tree.map(lambda a: jax.ShapeDtypeStruct(np.shape(a), self.dtype), example)
            closed, shape = jax.make_jaxpr(function, return_shape=True)(blank)
        self.inputs = [_is_horizon(a) for a in jax.tree.leaves(blank)]
        self.outputs = [_is_horizon(a) for a in jax.tree.leaves(shape)]
        self._lists, self._tree = jax.tree.flatten(shape, is_leaf=lambda a: isinstance(a, list))
        self._counts = len(self.inputs) - sum(self.inputs), sum(self.inputs)
        self._lying: dict[int, list[tuple[slice, tuple[int, ...]]]] = {}  # by horizon
        self._ways: dict[tuple[tuple[int, ...], ...], tuple[list[slice], int, int]] = {}  # by shapes
        self._in_place = in_place is not None
        writer = Writer(self.width, self.dtype.itemsize == 8)
        self._arena, self._spare = writer.function(closed, self.inputs, self.outputs, in_place)
        self._local = threading.local()
        self._engine = _compile(str(writer.module))
        address = self._engine.get_function_address("run")
        pointer = ctypes.c_void_p
        self._run = ctypes.CFUNCTYPE(None, ctypes.c_int64, pointer, pointer, pointer)(address)

    def __call__(self, arguments: Any) -> Any:
        """Of N rows; groups of them go to all cores.

        Args:
            arguments: a pytree of arrays `(N,)` and `(N, T)` in the order of the example's leaves, or of several in
                one: `(N, k)` for k scalars, `(N, k, T)` for k horizons. To a single row, sixty arrays cost more than
                what is done with them.

        Returns:
            The result likewise, with one array in place of every list.
        """
        leaves = jax.tree.leaves(arguments)
        shapes = tuple([a.shape[1:] for a in leaves])
        if shapes not in self._ways:
            self._ways[shapes] = self._placed(shapes)
        places, size, steps = self._ways[shapes]
        count = len(leaves[0])
        rows = np.empty((count, size), self.dtype)
        for a, place in zip(leaves, places, strict=True):
            rows[:, place].reshape(a.shape)[:] = a
        found = self.flat(rows, steps)
        parts = [found[:, place].reshape(count, *shape) for place, shape in self._blocks(steps)]
        return jax.tree.unflatten(self._tree, parts)

    def _placed(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[list[slice], int, int]:
        """Of arguments with these shapes, but for N: where each lies in a row, how long that is, and T."""
        firsts, counts, steps = [0], [0, 0], 0  # the leaf that each begins with; of scalars and of horizons
        for shape in shapes:
            none = 0 in shape
            long = not none and firsts[-1] < len(self.inputs) and self.inputs[firsts[-1]]
            many = 0 if none else shape[0] if len(shape) == 1 + long else 1
            firsts.append(firsts[-1] + many)
            counts[long] += many
            steps = shape[-1] if long else steps
        short, horizons = self._counts
        if tuple(counts) != self._counts:
            raise ValueError(
                f"lanes: expected {short} scalars and {horizons} horizons, got {counts[0]} and {counts[1]}"
            )
        lie = self.places(self.inputs, steps)
        stretches = [
            slice(lie[i].start, lie[j - 1].stop) if i < j else slice(0, 0) for i, j in itertools.pairwise(firsts)
        ]
        return stretches, self._size(self.inputs, steps), steps

    def flat(self, rows: np.ndarray, steps: int) -> np.ndarray:
        """Of rows `(N, inputs)`, scalars first and then horizons, in the order of the leaves; results likewise."""
        if 0 < len(rows) <= self.width:
            return self._group(rows, steps).copy()
        result = np.empty((len(rows), self._size(self.outputs, steps)), self.dtype)
        groups = [slice(first, first + self.width) for first in range(0, len(rows), self.width)]
        workers = min(cores(), len(groups))

        def work(first: int) -> None:
            for group in groups[first::workers]:
                result[group] = self._group(rows[group], steps)

        share(work, workers)
        return result

    def _group(self, rows: np.ndarray, steps: int) -> np.ndarray:
        """Results of as many rows as there are lanes at most, in memory that is used again."""
        count = len(rows)
        source, sink = self._room(steps)
        source[:, :count] = rows.T
        if count < self.width:
            source[:, count:] = rows[-1:].T  # the last row comes again in the lanes that are left
        self.once(source, sink, steps)
        return sink.T[:count]

    def _workspace(self, vectors: int) -> np.ndarray:
        """Kept for the next call of the same thread: fresh memory would cost a page fault every 4 kB."""
        held: np.ndarray | None = getattr(self._local, "arena", None)
        if held is None or len(held) < vectors:
            held = self._local.arena = _aligned(vectors, self.width, self.dtype)
            held[:] = 0.0
        return held

    def room(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """For one group's arguments, zeros, and its results; a thread gets the same memory again."""
        source, sink = self._room(steps)
        source[:] = 0.0
        return source, sink

    def _room(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        held: tuple[int, np.ndarray, np.ndarray] | None = getattr(self._local, "room", None)
        if held is None or held[0] != steps:
            sizes = self._size(self.inputs, steps), 0 if self._in_place else self._size(self.outputs, steps)
            source, sink = (_aligned(size, self.width, self.dtype) for size in sizes)
            sink[:] = 0.0
            held = self._local.room = steps, source, sink
        return held[1:]

    def once(self, source: np.ndarray, sink: np.ndarray, steps: int) -> None:
        """One group, from `source` to `sink`."""
        arena = self._workspace(self._arena * (steps + self._spare))
        self._run(steps, source.ctypes.data, sink.ctypes.data, arena.ctypes.data)

    def _blocks(self, steps: int) -> list[tuple[slice, tuple[int, ...]]]:
        """Of a flat result, where each leaf or list of leaves lies, and its shape."""
        if steps not in self._lying:
            blocks, scalar, horizon = [], 0, len(self.outputs) - sum(self.outputs)
            for part in self._lists:
                leaves = part if isinstance(part, list) else [part]
                shape = (len(leaves),) if isinstance(part, list) else ()
                if any(map(_is_horizon, leaves)):
                    blocks.append((slice(horizon, horizon := horizon + len(leaves) * steps), (*shape, steps)))
                else:
                    blocks.append((slice(scalar, scalar := scalar + len(leaves)), shape))
            self._lying[steps] = blocks
        return self._lying[steps]

    @staticmethod
    def _size(kinds: Sequence[bool], steps: int) -> int:
        return sum(steps if long else 1 for long in kinds)

    @staticmethod
    def places(kinds: Sequence[bool], steps: int) -> list[slice]:
        """Where each leaf lies: all scalars come first."""
        scalars, horizons, places = 0, 0, []
        total = sum(not long for long in kinds)
        for long in kinds:
            start = total + horizons * steps if long else scalars
            places.append(slice(start, start + (steps if long else 1)))
            horizons, scalars = horizons + long, scalars + (not long)
        return places


def _is_horizon(a: Any) -> bool:
    if a.shape not in ((), (HORIZON,)):
        raise ValueError(f"lanes: expected scalars and horizons, got shape {a.shape}")
    return bool(a.shape)


def _aligned(vectors: int, width: int, dtype: np.dtype[Any]) -> np.ndarray:
    """`(vectors, width)`, uninitialised, at an address that vector loads need."""
    size = vectors * width * dtype.itemsize
    raw = np.empty(size + 128, dtype=np.uint8)
    start = -raw.ctypes.data % 64
    # A register of steps of a single row may reach 64 bytes beyond the end. What it finds there counts for nothing, but
    # a loop in a step must not wait for an infinity that happens to lie there.
    raw[start + size :] = 0
    return raw[start : start + size].view(dtype).reshape(vectors, width)


def _compile(text: str) -> Any:
    """An engine with the program in it.

    The text has every operation once and no call, so of LLVM's passes it needs only the one that turns places on the
    stack into registers: of a projector's program the others took twice as long as all the rest together, and gained
    nothing that stood out of the noise. Constants are addressed from the code that uses them (the small code model);
    llvmlite's memory manager keeps the two together.
    """
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    name, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=name, features=features, opt=2, codemodel="small"
    )
    known = _lanes_cache.key(text, name, features, str(llvm.llvm_version_info), llvmlite.__version__, "small")
    code = _lanes_cache.load(known)
    if code is None:
        module = llvm.parse_assembly(text)
        passes = llvm.create_new_module_pass_manager()
        passes.add_sroa_pass()
        passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=0)))
        code = machine.emit_object(module)
        _lanes_cache.store(known, code)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine, use_lmm=True)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine
