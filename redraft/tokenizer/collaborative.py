"""Item vectors from who bought what after what, for catalogues that say nothing about their items."""

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD

from redraft.records import FloatArray, Interactions

__all__ = ["log_vectors"]

WINDOW = 5


def log_vectors(train: Interactions, n_items: int, dim: int, seed: int) -> FloatArray:
    """Unit vectors float32 [N, dim] such that items met near one another in histories lie near one another.

    The positive pointwise mutual information of items at most 5 places apart in one history, weighted by 1 / distance,
    reduced by a truncated SVD (Levy and Goldberg 2014). train: what may be learnt from, no event that is asked about.
    An item that nobody met has the vector 0; dim is cut to what the catalogue can have.
    """
    counts = sparse.csr_array((n_items, n_items), dtype=np.float64)
    users = np.repeat(np.arange(train.n_users), train.lengths)
    for distance in range(1, WINDOW + 1):
        together = users[distance:] == users[:-distance]
        pairs = train.items[:-distance][together], train.items[distance:][together]
        weights = np.full(int(together.sum()), 1 / distance)
        counts += sparse.csr_array((weights, pairs), shape=counts.shape)
    counts = sparse.coo_array(counts + counts.T)
    totals = np.asarray(counts.sum(axis=0)).ravel()
    rows, columns = counts.coords
    information = np.log(counts.data * totals.sum() / (totals[rows] * totals[columns]))
    kept = information > 0
    matrix = sparse.csr_array((information[kept], (rows[kept], columns[kept])), shape=counts.shape)
    if n_items < 2 or not matrix.nnz:
        return np.zeros((n_items, 1), dtype=np.float32)
    svd = TruncatedSVD(min(dim, n_items - 1), random_state=seed % 2**32)
    vectors = svd.fit_transform(matrix) / np.sqrt(np.maximum(svd.singular_values_, 1e-12))
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)
