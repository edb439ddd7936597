"""Residual k-means on FAISS: each level clusters what the levels before it left over."""

import faiss
import numpy as np

from redraft.records import FloatArray, InputError, IntArray

__all__ = ["check_enough_items", "nearest_codes", "residual_kmeans"]


def check_enough_items(n_items: int, codebook_size: int) -> None:
    """Raise InputError if there are fewer items than codes to fit to them."""
    if n_items < codebook_size:
        raise InputError(
            f"codebook_size: {codebook_size} codes cannot be fitted to {n_items} items; "
            f"set codebook_size to {n_items} or less"
        )


def residual_kmeans(
    vectors: FloatArray, *, levels: int, codebook_size: int, seed: int, iterations: int = 25
) -> FloatArray:
    """Codebooks float32 [L, C, D] fitted level by level to vectors [N, D].

    The same seed gives the same codebooks. Raises InputError as `check_enough_items`.
    """
    n_items, width = vectors.shape
    check_enough_items(n_items, codebook_size)
    residual = np.ascontiguousarray(vectors, dtype=np.float32)
    codebooks = np.empty((levels, codebook_size, width), dtype=np.float32)
    for level in range(levels):
        kmeans = faiss.Kmeans(
            width, codebook_size, niter=iterations, seed=(seed + level) % 2**31, min_points_per_centroid=1
        )
        kmeans.train(residual)
        codebooks[level] = kmeans.centroids
        residual = residual - codebooks[level][_nearest(residual, codebooks[level])]
    return codebooks


def nearest_codes(vectors: FloatArray, codebooks: FloatArray) -> IntArray:
    """Codes int32 [N, L] of vectors [N, D] under codebooks [L, C, D]: each level's code nearest to the residual."""
    residual = np.ascontiguousarray(vectors, dtype=np.float32)
    codes = np.empty((len(vectors), len(codebooks)), dtype=np.int32)
    for level, codebook in enumerate(codebooks):
        codes[:, level] = _nearest(residual, codebook)
        residual = residual - codebook[codes[:, level]]
    return codes


def _nearest(vectors: FloatArray, codebook: FloatArray) -> IntArray:
    codes: IntArray = faiss.knn(vectors, codebook, 1)[1][:, 0]
    return codes
