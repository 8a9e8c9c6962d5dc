"""The figures for lossy results agree with their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from instep.verify.lossy import Figures, measure_lossy, psnr, sqnr, ssim, top_k


def test_sqnr_of_a_tenth_of_the_signal_is_twenty_decibels() -> None:
    truth = np.random.default_rng(0).normal(size=1000)
    assert sqnr(truth * 1.1, truth) == pytest.approx(20.0)
    assert sqnr(truth, truth) == math.inf


def test_psnr_counts_from_the_range_of_the_truth() -> None:
    truth = np.linspace(0, 255, 256).reshape(1, 1, 16, 16)
    assert psnr(truth + 1, truth) == pytest.approx(20 * math.log10(255))


def test_ssim_is_one_for_equal_pictures_and_falls_with_blur() -> None:
    picture = np.random.default_rng(0).random((1, 3, 32, 32))
    blurred = (picture + np.roll(picture, 1, 3)) / 2
    assert ssim(picture, picture) == pytest.approx(1.0)
    assert 0 < ssim(blurred, picture) < 0.9
    assert ssim(picture + 0.5, picture) < 0.99


def test_top_k_counts_rows_whose_best_class_survives() -> None:
    truth = np.array([[0.1, 0.9, 0.0], [0.6, 0.3, 0.1]])
    result = np.array([[0.1, 0.5, 0.4], [0.3, 0.4, 0.2]])
    assert top_k(result, truth, 1) == 0.5
    assert top_k(result, truth, 2) == 1.0


def test_only_stated_thresholds_are_judged() -> None:
    truth = np.random.default_rng(0).random((1, 3, 16, 16))
    measured = [("noise", 0, measure_lossy(truth + 0.01, truth))]
    assert Figures(psnr=30).judge(measured)["ok"]
    failed = Figures(psnr=80, ssim=0.5).judge(measured)
    assert not failed["ok"] and len(failed["failed"]) == 1 and failed["failed"][0].startswith("psnr")
    assert not Figures().judge(measured)["ok"]
    classes = measure_lossy(np.eye(12), np.eye(12))
    assert classes["top1"] == 1.0 and "psnr" not in classes
