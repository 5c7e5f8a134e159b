"""Solvers of sparse codes, with their default settings, by name."""

from fedsplit.numerics.fista import Fista
from fedsplit.numerics.lasso import Solver
from fedsplit.numerics.lca import Lca
from fedsplit.numerics.spectral import Spectral

SOLVERS: dict[str, Solver] = {"fista": Fista(), "spectral": Spectral(), "lca": Lca(), "lca_gram": Lca(gram=True)}
