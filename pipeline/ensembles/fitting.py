"""How ensembles are fitted on the validation split, and compared there on samples that they were not fitted on."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import get_args

import numpy as np
from scipy.optimize import minimize, minimize_scalar

from pipeline import params
from pipeline.ensembles import ensemble
from pipeline.ensembles.ensemble import Ensemble
from pipeline.project.errors import PipelineError
from pipeline.scoring.metrics import log_softmax, nll

METHODS = ("simple", *get_args(params.CombinationMethod))  # from simple to complex
PICKS = 100  # of greedy selection, at most
LEAST_WEIGHT = 0.01  # a member that weighs less is left out
STRENGTHS = {  # tried by cross-fitting: how much weights are pulled to uniform; scikit-learn's C
    "weighted": (0.0, 1e-2, 1e-1),
    "stacking": (300.0, 30.0, 3.0),
}


def stack(logits: dict[str, np.ndarray], labels: np.ndarray) -> np.ndarray:
    """Each member's (samples, classes) as (members, samples, classes) float64; what can't be combined is refused."""
    shape = next(iter(logits.values())).shape
    for name, member in logits.items():
        if member.shape != shape or len(member) != len(labels):
            raise PipelineError(
                f"The logits of `{name}` have shape {member.shape}, but {shape} and {len(labels)} labels are expected; "
                "all members need the same samples and classes."
            )
        if not np.isfinite(member).all():
            raise PipelineError(f"The logits of `{name}` hold NaN or infinity; was its training stable?")
    return np.stack(list(logits.values())).astype(np.float64)


def fit(
    methods: Iterable[str],
    members: list[str],
    logits: np.ndarray,
    labels: np.ndarray,
    settings: params.Ensemble,
    seed: int,
) -> dict[str, Ensemble]:
    """Fit each method on these samples; a method of one member is that member, calibrated.

    simple: the mean of the members' probabilities as they are; nothing is fitted.
    mean_probs, mean_logits, vote: of members that are calibrated first.
    weighted: a mixture whose weights minimise the NLL of what comes out calibrated. greedy: one whose weights are how
    often each member was picked. Of both, members that weigh less than a hundredth get the weight zero.
    stacking: multinomial logistic regression on the members' log-probabilities (Wolpert 1992).

    Temperatures divide each member's logits before combining and the result after it, as `calibrate` says (Guo et al.
    2017). The result's, and the strength of a penalty, are fitted on predictions for samples left out.
    """
    count = len(members)
    before, after = "members" in settings.calibrate, "result" in settings.calibrate
    calibrated = before or (after and count == 1)
    temperatures = [fit_temperature(member, labels) if calibrated else 1.0 for member in logits]
    log_probs = log_softmax(logits / np.array(temperatures)[:, None, None])
    splits = list(folds(labels, min(settings.folds, int(np.unique(labels, return_counts=True)[1].min())), seed))

    def fitted(method: str) -> Ensemble:
        if method == "simple":
            return ensemble.uniform(members)
        if count == 1:
            return ensemble.alone(members[0], temperatures[0])
        tried = []
        for strength in STRENGTHS.get(method, (0.0,)):
            held_out = np.empty(log_probs.shape[1:])
            for kept, left in splits:
                part = _combine(method, members, log_probs[:, kept], labels[kept], strength, after)
                held_out[left] = part.log_probs(log_probs[:, left])
            temperature = fit_temperature(held_out, labels) if after else 1.0
            tried.append((nll(log_softmax(held_out / temperature), labels), strength, temperature))
        _, strength, temperature = min(tried)
        whole = _combine(method, members, log_probs, labels, strength, after)
        return replace(whole, temperatures=temperatures, temperature=temperature)

    return {method: fitted(method) for method in methods}


def recalibrated(fitted: Ensemble, logits: np.ndarray, labels: np.ndarray, settings: params.Ensemble) -> Ensemble:
    """The ensemble with temperatures that suit other models in its members' places, such as their fold teachers.

    Weights and coefficients stay, as they are of members that have been calibrated.

    Args:
        logits: (members, samples, classes) of samples that these models did not learn from.
        labels: (samples,) int64, or (samples, classes) float shares of mixed images; those of which a share has no
            label are left out.
    """
    if labels.ndim == 2:
        whole = labels.sum(axis=1) > 0.999
        logits, labels = logits[:, whole], labels[whole]
    before, after = "members" in settings.calibrate, "result" in settings.calibrate
    if fitted.method == "simple" or not (before or after) or not len(labels):
        return fitted
    if before or fitted.method == "alone":
        fitted = replace(fitted, temperatures=[fit_temperature(member, labels) for member in logits])
    if not after or fitted.method == "alone":
        return fitted
    combined = replace(fitted, temperature=1.0).log_probs(logits)
    return replace(fitted, temperature=fit_temperature(combined, labels))


def predict_out_of_fold(
    methods: Iterable[str],
    members: list[str],
    logits: np.ndarray,
    labels: np.ndarray,
    settings: params.Ensemble,
    seed: int,
) -> dict[str, np.ndarray]:
    """Each method's (samples, classes) log-probabilities, of every sample by an ensemble fitted without it."""
    held_out = {method: np.empty(logits.shape[1:]) for method in methods}
    for kept, left in folds(labels, settings.folds, seed):
        for method, fitted in fit(held_out, members, logits[:, kept], labels[kept], settings, seed).items():
            held_out[method][left] = fitted.log_probs(logits[:, left])
    return held_out


def regressible(labels: np.ndarray, classes: int, folds: int) -> bool:
    """Has stacking each class in whatever a fold leaves, and in whatever a fold of that leaves?"""
    return int(np.bincount(labels, minlength=classes).min()) >= max(folds, 4)


def folds(labels: np.ndarray, count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(kept, left) positions of each fold, the classes spread evenly over all.

    Two folds at least, and no more than the largest class has samples.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    largest = int(np.bincount(labels).max())
    count = max(2, min(count, largest))
    kind = StratifiedKFold if largest > 1 else KFold  # which asks for no class twice
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a class that is in fewer than all folds
        yield from kind(count, shuffle=True, random_state=seed).split(labels, labels)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that minimises NLL (Guo et al. 2017, sec. 4.2), searched in [0.05, 20].

    Args:
        labels: (samples,) int64, or (samples, classes) float shares of mixed images.
    """

    def loss(log_t: float) -> float:
        log_probs = log_softmax(logits / np.exp(log_t))
        return nll(log_probs, labels) if labels.ndim == 1 else float(-(labels * log_probs).sum(axis=1).mean())

    best = minimize_scalar(
        loss,
        bounds=np.log([0.05, 20]),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(np.exp(best.x))


def fit_weights(log_probs: np.ndarray, labels: np.ndarray, pull: float = 0.0, tempered: bool = False) -> np.ndarray:
    """(members,) weights w = softmax(s) that minimise the mixture's NLL + pull/2 |s|²; L-BFGS from uniform.

    No library fits a mixture of predictions that are there already; scipy minimises what is written out here.

    Args:
        log_probs: (members, samples, classes).
        tempered: of the mixture at its own best temperature, fitted beside the weights: a mean of members is less sure
            of itself than it should be, and by its own NLL the most confident member would win.
    """
    members, (samples, classes) = len(log_probs), log_probs.shape[1:]
    probs, true = np.exp(log_probs).reshape(members, -1), np.zeros((samples, classes))
    true[np.arange(samples), labels] = 1

    def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
        scores, sharpness = values[:-1], np.exp(values[-1]) if tempered else 1.0
        weights = np.exp(log_softmax(scores))
        mixture = np.maximum(weights @ probs, np.finfo(float).tiny).reshape(samples, classes)
        log_mixture = np.log(mixture)
        result = log_softmax(sharpness * log_mixture)
        gradient = (np.exp(result) - true) / samples  # of the NLL, by sharpness * log_mixture
        by_weight = probs @ (sharpness * gradient / mixture).ravel()
        by_scores = weights * (by_weight - weights @ by_weight) + pull * scores
        by_sharpness = sharpness * (gradient * log_mixture).sum() if tempered else 0.0
        return nll(result, labels) + pull / 2 * scores @ scores, np.append(by_scores, by_sharpness)

    best = minimize(objective, np.zeros(members + 1), jac=True, method="L-BFGS-B", options={"ftol": 1e-10})
    return np.exp(log_softmax(best.x[:-1]))


def pick_greedily(log_probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(members,) weights: how often each was picked, with replacement, in the best prefix (Caruana et al. 2004).

    Each pick is the member that makes the NLL of the mean of probabilities so far lowest. Here because the libraries
    that have it, such as AutoGluon, bring their own training with it.
    """
    true = np.exp(log_probs[:, np.arange(len(labels)), labels])
    total, picked, best = np.zeros(len(labels)), [], (np.inf, 0)
    for count in range(1, PICKS + 1):
        losses = -np.log(np.maximum((total + true) / count, np.finfo(float).tiny)).mean(axis=1)
        pick = int(losses.argmin())
        picked.append(pick)
        total += true[pick]
        best = min(best, (float(losses[pick]), count))
    return np.bincount(picked[: best[1]], minlength=len(log_probs)) / best[1]


def _combine(
    method: str, members: list[str], log_probs: np.ndarray, labels: np.ndarray, strength: float, tempered: bool
) -> Ensemble:
    """The ensemble of these calibrated members, before the result's temperature, which follows if `tempered`."""
    combined = replace(ensemble.uniform(members), method=method)
    if method in ("weighted", "greedy"):
        greedy = method == "greedy"
        fitted = pick_greedily(log_probs, labels) if greedy else fit_weights(log_probs, labels, strength, tempered)
        kept = np.where(fitted < LEAST_WEIGHT, 0.0, fitted)
        return replace(combined, weights=(kept / kept.sum()).tolist())
    if method == "stacking" and log_probs.shape[-1] > 1:
        coefficients, intercept = _regress(log_probs, labels, strength)
        return replace(combined, coefficients=coefficients.tolist(), intercept=intercept.tolist())
    return combined


def _regress(log_probs: np.ndarray, labels: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (members * classes, classes) and intercept (classes,) of the logistic regression."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    inputs, classes = ensemble.features(log_probs), log_probs.shape[-1]
    with threadpool_limits(1), warnings.catch_warnings():  # threads that share so little wait fifteen times as long
        warnings.simplefilter("ignore")  # of stopping early, which regularises too
        model = LogisticRegression(C=strength, max_iter=200).fit(inputs, labels)
    coefficients, intercept = model.coef_, model.intercept_
    if classes == 2:  # scikit-learn then gives the odds of the second class alone
        coefficients, intercept = np.vstack([-coefficients, coefficients]) / 2, np.array([-1, 1]) * intercept / 2
    return coefficients.T, intercept
