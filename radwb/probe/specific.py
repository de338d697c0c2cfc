"""Does a score know this finding, or only that something is wrong?"""

import numpy as np
import pandas as pd

from radwb.findings.parents import kin
from radwb.probe.scores import Scores
from radwb.stats import auroc, compare_auroc


def among_abnormal(scores: Scores) -> Scores:
    """The same scores on films with some finding: does your model know which one?

    >>> among_abnormal(scores).mean_auroc()

    A film without any finding is no control. The labels of `scores` alone say so.

    Args:
        scores: of several findings.
    Returns:
        Scores whose truth is NaN where the film has none of the findings, so that these
        rows count as dropped.
    Raises:
        ValueError: there's one finding only, so that no control has another.
    """
    if len(scores.truth.columns) < 2:
        raise ValueError(
            "expected scores of two findings or more, since a control must have another"
            f" one, got {list(scores.truth)}. Try zero_shot(model, table) for all"
        )
    abnormal = (scores.truth == 1).any(axis=1)
    truth = scores.truth.where(abnormal, np.nan)
    return Scores(scores.values, truth, scores.patient_id)


def finding_count_control(scores: Scores) -> Scores:
    """The control: how many other findings the film has, blind to the one you ask for.

    >>> finding_count_control(scores).mean_auroc()

    A parent label and its children are no others of one another
    (`rw.findings.FINDINGS`).

    Args:
        scores: whose truth is counted; their values aren't looked at.
    """
    has = (scores.truth == 1).astype(float)  # (N, K)
    others = {}
    for finding in has:
        # an edema makes a lung opacity, too: counting it would not be blind
        family = kin(finding) & set(has)
        others[finding] = has.drop(columns=list(family)).sum(axis=1)
    return Scores(pd.DataFrame(others), scores.truth, scores.patient_id)


def specificity(scores: Scores, *, name: str = "the model") -> pd.DataFrame:
    """Whether your model knows the finding, or only that something is wrong.

    >>> specificity(scores)[["finding", "auroc", "blind", "abnormal", "sentence"]]

    Each AUROC against all films and against abnormal ones alone stands beside that of
    the blind count of other findings (`finding_count_control`). The blind count is held
    against the scores on all films. Among abnormal ones it is no control: there each
    film without the finding has another, and those with it needn't.

    Args:
        scores: of several findings.
        name: of what gave them, for the sentence.
    Returns:
        one row a finding and one for their mean: finding, auroc and blind (against all
        films), abnormal (against films with another finding) with low, high,
        positive_patients and note; sentence, the paired comparison of auroc and blind,
        each at 1 - 0.05 / K.
    """
    blind = finding_count_control(scores)
    names = (name, "a blind count of the others")
    findings = list(scores.values)
    compared = [
        scores.against(blind, names, finding=finding, family=len(findings))
        for finding in findings
    ]
    compared.append(scores.against(blind, names))
    abnormal = auroc_table(among_abnormal(scores))
    abnormal = abnormal.rename(columns={"auroc": "abnormal"})
    table = auroc_table(scores)[["finding", "auroc"]]
    table["blind"] = auroc_table(blind)["auroc"]
    shown = ["abnormal", "low", "high", "positive_patients", "note"]
    table = table.join(abnormal[shown])
    return table.assign(sentence=[str(comparison) for comparison in compared])


def auroc_table(scores: Scores) -> pd.DataFrame:
    """The AUROCs of your scores: a row a finding and, below them, their mean.

    >>> len(auroc_table(scores))
    3

    Args:
        scores: of one finding or more.
    Returns:
        the columns of `Scores.auroc`.
    """
    return pd.concat([scores.auroc(), scores.mean_auroc()], ignore_index=True)


def prompt_label_matrix(scores: Scores) -> pd.DataFrame:
    """The AUROC of each of your prompts against each label: what it really asks for.

    >>> prompt_label_matrix(scores).shape
    (2, 2)

    Args:
        scores: of several findings, one column a prompt.
    Returns:
        (K, K), index the prompt, columns the label: a model that knows what it is asked
        has its best value of each column on the diagonal.
    """
    findings = list(scores.values)
    matrix = pd.DataFrame(index=findings, columns=findings, dtype=float)
    for prompt in findings:
        for label in findings:
            value = auroc(scores.truth[label], scores.values[prompt])
            matrix.loc[prompt, label] = value
    return matrix.rename_axis("prompt")


def best_other_prompt(scores: Scores) -> pd.DataFrame:
    """For each label the best of your other prompts, held against its own.

    >>> best_other_prompt(scores)["sentence"]

    Args:
        scores: of several findings, one column a prompt.
    Returns:
        one row a label: finding, rival (the other prompt), own and others (AUROCs),
        difference (own less rival), verdict and sentence, corrected for the K (K - 1)
        prompts that it was chosen from.
    """
    matrix = prompt_label_matrix(scores)
    findings = list(matrix)
    family = len(findings) * (len(findings) - 1)
    rows = []
    for label in findings:
        others = matrix[label].drop(label)
        rival = others.idxmax()
        names = (f"the prompt for {label.lower()}", f"the one for {rival.lower()}")
        compared = compare_auroc(
            scores.truth[label],
            scores.values[label],
            scores.values[rival],
            scores.patient_id,
            names=names,
            family=family,
        )
        row = {"finding": label, "rival": rival}
        row |= {"own": matrix.loc[label, label], "others": others[rival]}
        row |= {"difference": compared.difference, "verdict": compared.verdict}
        rows.append(row | {"sentence": str(compared)})
    return pd.DataFrame(rows)
