"""The texts an export measures with."""

from __future__ import annotations

from latebolt_export.judge.texts import calibration_texts, parity_texts


def test_calibration_texts_are_many_and_differ():
    texts = calibration_texts()
    assert len(texts) == len(set(texts)) >= 24
    assert all(20 < len(text) < 2000 for text in texts)
    assert not all(text.isascii() for text in texts)


def test_parity_texts_are_real_and_unseen_by_calibration():
    texts = parity_texts(40)
    assert len(texts) == len(set(texts)) == 40
    assert not set(texts) & set(calibration_texts())
    assert len(parity_texts(3)) == 3
