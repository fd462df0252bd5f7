#!/usr/bin/env python3
"""Makes tests/fixtures/study.json: what ppi_py and statsmodels say of invented data, for src/study.

Needs: pip install ppi-python statsmodels
"""
import json
from pathlib import Path

import numpy as np
from ppi_py import ppi_mean_ci, ppi_mean_pointestimate
from ppi_py.ppi import _calc_lam_glm
from statsmodels.duration.survfunc import SurvfuncRight
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

rng = np.random.default_rng(20260101)


def mean_case(gold, unlabelled, prevalence, noise):
    """A label of some prevalence, predicted with a probability that is right to a degree."""
    truth = (rng.random(gold + unlabelled) < prevalence).astype(float)
    logit = np.log(prevalence / (1 - prevalence)) + 3 * (truth - prevalence) + noise * rng.normal(size=len(truth))
    predicted = np.round(1 / (1 + np.exp(-logit)), 4)
    y, f, rest = truth[:gold], predicted[:gold], predicted[gold:]
    point = ppi_mean_pointestimate(y, f, rest, lam=1)
    grads = lambda values: (values - point).reshape(-1, 1)
    lam = _calc_lam_glm(grads(y), grads(f), grads(rest), np.eye(1), clip=True)
    low, high = ppi_mean_ci(y, f, rest, alpha=0.05)
    classical = ppi_mean_ci(y, f, rest, alpha=0.05, lam=0)
    return {
        "truth": y.tolist(),
        "predicted": f.tolist(),
        "unlabelled": rest.tolist(),
        "lambda": float(lam),
        "value": float(np.squeeze(ppi_mean_pointestimate(y, f, rest))),
        "low": float(np.squeeze(low)),
        "high": float(np.squeeze(high)),
        "classical": [float(np.squeeze(side)) for side in classical],
    }


def survival_case(issues):
    days = np.round(rng.exponential(20, issues), 0)
    closed = rng.random(issues) < 0.7
    curve = SurvfuncRight(days, closed.astype(int))
    low, high = curve.quantile_ci(0.5, method="cloglog")
    return {
        "days": days.tolist(),
        "closed": closed.tolist(),
        "times": curve.surv_times.tolist(),
        "open": curve.surv_prob.tolist(),
        "errors": [e if np.isfinite(e) else None for e in curve.surv_prob_se.tolist()],
        "median": float(curve.quantile(0.5)),
    }


p = np.round(rng.random(9) ** 3, 6)
fixture = {
    "means": [mean_case(*case) for case in [(60, 300, 0.3, 1.0), (100, 400, 0.05, 0.5), (40, 200, 0.5, 3.0)]],
    "survival": [survival_case(issues) for issues in (40, 90)],
    "holm": {"p": p.tolist(), "corrected": multipletests(p, method="holm")[1].tolist()},
    "wilson": [
        [share, issues, *proportion_confint(share * issues, issues, method="wilson")]
        for share, issues in [(0.0, 40), (0.1, 50), (0.5, 123), (1.0, 7)]
    ],
}
path = Path(__file__).parent.parent / "tests" / "fixtures" / "study.json"
path.write_text(json.dumps(fixture) + "\n")
print(path)
