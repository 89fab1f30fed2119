"""HiGHS behind arrays: pass a program, run it, read it back; a basis can be kept for the next program of the same shape.

Must not know: what columns mean.
"""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np

from optimizers.formulations.dispatch import Index, Program
from optimizers.specification import Array

_BANNER_SEEN, _FIRST = False, threading.Lock()
#: HiGHS's own numbers: matrix by row, minimise, integer column; dual edge weights of its choice, devex; simplex by dual, by primal.
_ROWWISE, _MINIMISE, _INTEGER, _ANY, _DEVEX, _DUAL, _PRIMAL = 2, 1, 1, -1, 1, 1, 4


@dataclass(frozen=True, slots=True)
class Answer:
    """What HiGHS found.

    Attributes:
        objective: yuan, constant included; inf when there is no point.
        bound: best bound on it, yuan.
        values, row_duals: per column, per row (no duals when they were not asked for).
        status: HiGHS's word: optimal, time_limit, infeasible, ...
    """

    objective: float
    bound: float
    values: Array
    row_duals: Array
    status: str

    @property
    def usable(self) -> bool:
        """True when there is a point: finite cost, finite values."""
        return bool(np.isfinite(self.objective)) and bool(np.isfinite(self.values).all())


def silenced() -> highspy.Highs:
    """A HiGHS that says nothing. The first of a process prints its banner before any option can forbid it: that one is made with the descriptor aside."""
    global _BANNER_SEEN
    with _FIRST:
        if not _BANNER_SEEN:
            _BANNER_SEEN = True
            sys.stdout.flush()
            kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(nowhere, 1)
                highspy.Highs()
            finally:
                os.dup2(kept, 1)
                os.close(kept)
                os.close(nowhere)
    made = highspy.Highs()
    for name, value in (("output_flag", False), ("threads", 1), ("log_to_console", False)):
        made.setOptionValue(name, value)
    return made


class Solver:
    """One HiGHS instance, single-threaded and silent."""

    def __init__(self) -> None:
        self._highs = silenced()
        self._basis: Any = None
        self._shape: tuple[int, int] = (0, 0)

    def relaxed(self, p: Program, *, fixed: Array | None = None, keep_basis: bool = True) -> Answer:
        """Solve with whole columns relaxed, or fixed at given values.

        Args:
            p: the program.
            fixed: values of the whole columns, in the order of `p.whole`.
            keep_basis: begin at the last basis when the shape is the same.
        """
        lower, upper = p.lower, p.upper
        if fixed is not None:
            lower, upper = lower.copy(), upper.copy()
            lower[p.whole] = upper[p.whole] = fixed
        self._pass(p, lower, upper, whole=False)
        if keep_basis and self._basis is not None and self._shape == p.matrix.shape:
            self._highs.setBasis(self._basis)
        return self._run(p)

    def refixed(self, p: Program, fixed: Array, *, duals: bool = True) -> Answer:
        """The program last passed, with its whole columns fixed: only bounds change, the basis stays."""
        self._highs.changeColsBounds(len(p.whole), p.whole.astype(np.int32), fixed, fixed)
        self._highs.setOptionValue("simplex_strategy", _DUAL)
        return self._run(p, keep=False, duals=duals)

    def priced(self, p: Program, columns: Index, cost: Array, *, basis: Any = None) -> Answer:
        """Relaxed, with other costs on some columns, from the basis of a like program if one is given; the program stays passed for `recosted`. Without duals."""
        self._pass(p, p.lower, p.upper, whole=False)
        if basis is not None:
            self._highs.setBasis(basis)
        return self.recosted(p, columns, cost, warm=False)

    def basis(self) -> Any:
        """Where the last run ended, for `priced` of a program with the same columns and rows."""
        return self._highs.getBasis()

    def recosted(self, p: Program, columns: Index, cost: Array, *, warm: bool = True) -> Answer:
        """The program last passed, with other costs on some columns: the basis stays. Without duals: reading them takes a tenth of a run.

        Args:
            p: the program.
            columns: whose costs change.
            cost: yuan per unit of each.
            warm: the basis is still feasible, as after any `recosted`: primal simplex goes on from it (measured: a fifth faster than by dual).
        """
        self._highs.changeColsCost(len(columns), columns.astype(np.int32), cost)
        self._highs.setOptionValue("simplex_strategy", _PRIMAL if warm else _DUAL)
        return self._run(p, keep=False, duals=False)

    def loosened(self, p: Program, basis: Any = None) -> None:
        """Take the bounds of `refixed` back; with the basis from before it, the next `recosted` goes on from there."""
        self._highs.changeColsBounds(len(p.whole), p.whole.astype(np.int32), p.lower[p.whole], p.upper[p.whole])
        if basis is not None:
            self._highs.setBasis(basis)

    def whole(self, p: Program, *, gap: float, seconds: float, start: Array | None = None) -> Answer:
        """Solve with whole columns whole, from a starting point, until the gap or the time is reached; the incumbent is returned either way."""
        self._pass(p, p.lower, p.upper, whole=True)
        self._highs.setOptionValue("presolve", "choose")
        self._highs.setOptionValue("mip_rel_gap", gap)
        self._highs.setOptionValue("time_limit", seconds)
        if start is not None:
            point = highspy.HighsSolution()
            point.col_value = start.tolist()
            self._highs.setSolution(point)
        self._highs.run()
        info = self._highs.getInfo()
        status = self._highs.getModelStatus()
        solution = self._highs.getSolution()
        values = np.array(solution.col_value)
        found = info.primal_solution_status == 2 and len(values) == len(p.cost)
        return Answer(info.objective_function_value if found else np.inf, info.mip_dual_bound, values if found else np.zeros(len(p.cost)), np.zeros(len(p.row_lower)), _word(status))

    def _pass(self, p: Program, lower: Array, upper: Array, *, whole: bool) -> None:
        kinds = np.zeros(len(p.cost), np.int32)
        if whole:
            kinds[p.whole] = _INTEGER
        # Without presolve these programs are solved faster (measured 1.3-1.8x), and a basis fits the next one. Devex prices spare the
        # start of dual steepest edge, which costs more than the few pivots of a re-plan (measured: 4.4 -> 2.5 ms).
        self._highs.setOptionValue("presolve", "off")
        self._highs.setOptionValue("simplex_strategy", _DUAL)
        self._highs.setOptionValue("simplex_dual_edge_weight_strategy", _ANY if whole else _DEVEX)
        self._highs.setOptionValue("time_limit", 1e9)
        # Passed anew each time, by arrays: changing only what moved took longer (0.9 against 0.14 ms) and saved no pivots.
        m = p.matrix
        self._highs.passModel(m.shape[1], m.shape[0], m.nnz, _ROWWISE, _MINIMISE, p.constant, p.cost, lower, upper, p.row_lower, p.row_upper, m.indptr, m.indices, m.data, kinds)

    def _run(self, p: Program, *, keep: bool = True, duals: bool = True) -> Answer:
        self._highs.run()
        status = self._highs.getModelStatus()
        if status != highspy.HighsModelStatus.kOptimal:
            return Answer(np.inf, -np.inf, np.zeros(len(p.cost)), np.zeros(len(p.row_lower)), _word(status))
        solution = self._highs.getSolution()
        if keep:
            self._basis, self._shape = self._highs.getBasis(), p.matrix.shape
        objective = self._highs.getInfo().objective_function_value
        return Answer(objective, objective, np.array(solution.col_value), np.array(solution.row_dual) if duals else np.empty(0), "optimal")


def _word(status: Any) -> str:
    return str({"kOptimal": "optimal", "kUnboundedOrInfeasible": "infeasible", "kTimeLimit": "time_limit", "kInfeasible": "infeasible", "kUnbounded": "unbounded", "kInterrupt": "interrupted"}.get(status.name, status.name))
