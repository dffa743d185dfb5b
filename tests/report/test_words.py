"""Sentences on models and savings."""

from __future__ import annotations

from distill_at_scale.report.words import compared_on, savings, several


def test_names_in_a_sentence() -> None:
    assert several(["a"]) == "a"
    assert several(["a", "b", "c"]) == "a, b and c"
    assert several([]) == ""


def test_on_which_models_means_are() -> None:
    assert compared_on(["ease", "mf"], ["ease", "mf"]) == "mean over ease and mf"
    assert compared_on(["ease"], ["ease"]) == "of ease"
    told = compared_on(["ease"], ["ease", "mf", "bias"])
    assert told == "of ease, which all methods support (not mf and bias)"


def test_bytes_beyond_the_log_are_said_in_so_many_words() -> None:
    held, *_ = savings(unit="users", share=0.1, bytes_share=1.8, make_cpu_s=None, fit_share=None)
    assert held.startswith("It holds 10 % as many users as the log has users and takes 1.8 times the bytes of the log")
    held, *_ = savings(unit="train rows", share=0.1, bytes_share=0.09, make_cpu_s=None, fit_share=None)
    assert held == "It holds 10 % of the log's train rows and takes 9 % of the bytes of the log's train rows."
    assert savings(unit="sequences", share=None, bytes_share=None, make_cpu_s=None, fit_share=None) == []


def test_what_training_saves_and_whether_making_pays() -> None:
    costs = {"fit_share": 0.2, "fit_cpu_s": 2.0, "fit_full_cpu_s": 10.0, "make_cpu_s": 4.0}
    told = savings(unit="train rows", share=None, bytes_share=None, models=["ease", "mf"], **costs)
    assert told == [
        "Training ease and mf once saves 80 % of the CPU time that all rows take (2 CPU-seconds instead of 10 "
        "CPU-seconds).",
        "Making it takes 4 CPU-seconds, as much as 0.5 such trainings save.",
    ]
    costs |= {"fit_share": 1.5, "fit_cpu_s": 15.0}
    told = savings(unit="train rows", share=None, bytes_share=None, **costs)
    assert told[0].startswith("Training on it saves nothing: it takes 1.5 times the CPU time of all rows")
    assert told[1] == "Making it takes 4 CPU-seconds, which never pays off."
    told = savings(unit="train rows", share=None, bytes_share=None, make_cpu_s=4.0, fit_share=0.25)
    assert told == ["Training on it saves 75 % of the CPU time that all rows take.", "Making it takes 4 CPU-seconds."]
