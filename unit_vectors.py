"""Arrays as the measures need them: checked, in chunks, and scaled to length 1."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating]
Ints = NDArray[np.integer]
T = TypeVar("T")
MOST_AT_ONCE = 4  # each may hold a class of training images in float64, several times over


def as_matrix(values: ArrayLike, name: str, width: int | None = None) -> Array:
    """`values` as a finite float32 or float64 array [rows, d], d = width if given."""
    x = np.asarray(values)
    x = x if x.dtype in (np.float32, np.float64) else x.astype(np.float64)
    if x.ndim != 2 or x.size == 0 or x.shape[1] != (width or x.shape[1]):
        raise ValueError(f"{name} of shape {x.shape}: need [rows, {width or 'dimensions'}], not empty")
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        raise ValueError(f"{name} row {finite.argmin()} is NaN or infinite: did training diverge?")
    return x


def as_ids(values: ArrayLike, name: str, length: int | None = None) -> Ints:
    """`values` as a 1-D integer array, of the given length if any."""
    ids = np.asarray(values)
    if ids.ndim != 1 or ids.size == 0 or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"{name} of shape {ids.shape}, type {ids.dtype}: need 1-D integers, not empty")
    if len(ids) != (length or len(ids)):
        raise ValueError(f"{len(ids)} {name} for {length} rows: need one each")
    return ids


def chunks(count: int, chunk: int) -> list[slice]:
    """Slices of `chunk` rows, the last perhaps shorter, that cover `count` rows in order. ValueError for chunk < 1."""
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: need at least 1 row at a time")
    return [slice(start, min(start + chunk, count)) for start in range(0, count, chunk)]


def in_threads(work: Callable[..., T], *parts: Iterable) -> list[T]:
    """work(...) on each of the parts at the same time, as map() does: NumPy lets other threads run meanwhile."""
    with ThreadPoolExecutor(min(os.cpu_count() or 1, MOST_AT_ONCE)) as pool:
        return list(pool.map(work, *parts))


def unit(x: Array) -> Array:
    """Rows of x [N, d] at length 1, zero rows left at zero; float32 and float64 kept, others to float64."""
    x = as_matrix(x, "embeddings")
    largest = np.abs(x).max(axis=1, keepdims=True)
    # Dividing by the largest entry first keeps squares of huge and tiny rows from overflowing or vanishing.
    x = x / np.where(largest > 0, largest, 1)
    return x / np.where(largest > 0, np.linalg.norm(x, axis=1, keepdims=True), 1)


def grid_unit(x: Array) -> Array:
    """Unit rows in float64, rounded to multiples of 2^-26: every dot product of two of them is then exact.

    Products are multiples of 2^-52 and by Cauchy-Schwarz no partial sum exceeds 2, so all fit float64's 53 bits in
    whatever order they are added: neither the chunk size nor BLAS's kernels and threads can change a cosine. The
    rounding itself moves it by about 1e-8, less than float32 would.
    """
    return np.rint(unit(x.astype(np.float64)) * 2.0**26) / 2.0**26
