"""Classes never trained on, as the report tells of them: verdicts, rank correlations, what one seed decides."""

from scipy import stats

from report import inference, open_set
from report_helpers import groups_of


def test_losses_stand_to_softmax_and_nsl_on_unseen_classes_by_their_intervals():
    groups = groups_of(softmax=[0.9] * 3, norm_softmax=[0.9] * 3, arcface=[0.9] * 3, cosface=[0.9] * 3)
    errors = {"softmax": (5.0, 5.1, 4.9), "norm-softmax": (4.0, 4.2, 4.1), "arcface": (3.0, 3.1, 3.3),
              "cosface": (4.5, 3.9, 4.1)}  # fmt: skip
    for loss, members in groups.items():
        for seed, facts in members.items():
            facts["verification"] = {"eer": errors[loss][seed] / 100}
    found = {base: open_set.open_verdicts(groups, base, "eer") for base in ("softmax", "norm-softmax")}
    assert found["softmax"]["lower"] == ["Norm-softmax", "ArcFace"] and found["softmax"]["undecided"] == ["CosFace"]
    assert found["norm-softmax"]["lower"] == ["ArcFace"] and found["norm-softmax"]["undecided"] == ["CosFace"]
    assert not any(found[base][verdict] for base in found for verdict in ("higher", "single"))
    for loss, members in groups.items():
        for seed, facts in members.items():
            facts["retrieval"] = {"rank_1": 0.97 + (0.01 + 0.001 * seed) * (loss == "arcface")}
    assert open_set.open_verdicts(groups, "softmax", "rank_1")["higher"] == ["ArcFace"]


def test_collapse_is_spearmans_correlation_of_intra_and_unseen_error():
    groups = groups_of(softmax=[0.9] * 2, norm_softmax=[0.9] * 2, arcface=[0.9] * 2, cosface=[0.9] * 2)
    values = {"softmax": (17, 0.25), "norm-softmax": (18, 0.22), "arcface": (6, 0.24), "cosface": (5, 0.30)}
    for loss, members in groups.items():
        for seed, facts in members.items():
            facts["angles"] = {"test": {"intra": values[loss][0] + seed}}
            facts["verification"] = {"eer": values[loss][1]}
    expected = stats.spearmanr(*zip(*values.values(), strict=True))
    assert inference.collapse(groups, "eer") == {
        "correlation": f"{expected.statistic:+.2f}".replace("-", "−"),
        "losses": 4,
    }
    assert inference.collapse({"softmax": groups["softmax"]}, "eer") is None
    unmeasured = {0: {"angles": {"test": {"intra": 1.0}}}}
    assert inference.collapse(groups | {"adacos": unmeasured}, "eer") == inference.collapse(groups, "eer")
    assert inference.collapse({**groups, "arcface": unmeasured}, "eer") is None
    for members in groups.values():
        for facts in members.values():
            facts["verification"] = {"eer": 0.25}
    assert inference.collapse(groups, "eer") is None


def test_the_margin_losses_have_a_correlation_of_their_own():
    losses = ("softmax", "norm-softmax", "sphereface", "cosface", "arcface", "combined", "adacos")
    groups = groups_of(**{loss.replace("-", "_"): [0.9] for loss in losses})
    for i, members in enumerate(groups.values()):
        for facts in members.values():  # wider and wider; among the margins the error falls, over all it rises
            facts["angles"]["test"]["intra"] = float(i)
            facts["verification"] = {"eer": 0.01 * (i if i < 2 or i > 5 else 5 - 0.1 * i)}
    (data,) = open_set.open_tables({"mnist": {"7": groups}})
    assert data["collapse_margins"] == {"correlation": "−1.00", "losses": 4}
    assert data["collapse"]["losses"] == 7 and data["collapse"]["correlation"].startswith("+")


def with_errors(**errors: list[float]) -> dict:
    """Groups whose equal error rates, in per cent, are these, a seed each."""
    groups = groups_of(**{name: [0.9] * len(values) for name, values in errors.items()})
    for name, values in errors.items():
        for seed, facts in groups[name.replace("_", "-")].items():
            facts["verification"] = {"eer": values[seed] / 100}
    return groups


def test_the_seeds_are_told_apart():
    groups = with_errors(norm_softmax=[10, 11, 12], arcface=[16, 16, 13], cosface=[14, 17, 12], softmax=[1, 1, 1])
    assert open_set.by_seed(groups) == ["+5.0", "+5.5", "+0.5"]
    assert open_set.by_seed(with_errors(norm_softmax=[10, 11], arcface=[16, 16], cosface=[14])) == []
    assert open_set.by_seed(with_errors(norm_softmax=[10], arcface=[16])) == []
    assert open_set.by_seed(with_errors(arcface=[16, 17])) == []


def test_the_loss_best_on_trained_classes_and_worst_on_the_others():
    groups = with_errors(softmax=[10, 11], arcface=[16, 16], adacos=[20, 22])
    assert open_set.extremes(groups) is None  # not measured on the trained ones
    for loss, error in (("softmax", 0.005), ("arcface", 0.003), ("adacos", 0.002)):
        for facts in groups[loss].values():
            facts["verification_trained_classes"] = {"eer": error}
    found = open_set.extremes(groups)
    assert found["lowest_trained"] == {"title": "AdaCos", "eer": "0.20"}
    assert found["highest_unseen"] == {"title": "AdaCos", "eer": "21.00"}


def test_what_a_correction_over_splits_leaves():
    clear = with_errors(norm_softmax=[10, 11, 12], arcface=[16, 17.1, 18], cosface=[10, 11.2, 11.9])
    none = with_errors(norm_softmax=[10, 11, 12], arcface=[10.1, 10.8, 12.1])
    found = open_set.corrected({"mnist": {"7": clear, "2": none}})["eer"]
    left = ["ArcFace without 7"]
    assert found == {"tested": 3, "kept": left, "above": left, "unpaired": left}


def test_a_loss_that_a_split_lacks_keeps_its_row():
    groups = with_errors(norm_softmax=[10, 11, 12], arcface=[16, 16, 13])
    rows = {row["title"]: row["eer"] for row in open_set.minus_plain(groups)}
    assert list(rows) == ["SphereFace", "CosFace", "ArcFace", "Combined", "Li-ArcFace"]
    assert rows["ArcFace"]["mean"] == "+4.00" and rows["CosFace"] is None
    assert all(row["eer"] is None for row in open_set.minus_plain({"arcface": groups["arcface"]}))
