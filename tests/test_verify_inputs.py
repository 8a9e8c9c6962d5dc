"""The inputs of a proof: deterministic, in range, of the right shapes, pictures included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from instep.graph import Graph, Spec, Value, ops
from instep.verify.indices import index_bounds
from instep.verify.inputs import Picture, fit, load_images, make_inputs, natural


def test_inputs_are_the_same_every_time_and_differ_with_the_seed() -> None:
    specs = [Spec((1, 3, 16, 16))]
    one, two, other = (make_inputs(specs, seed=s) for s in (3, 3, 4))
    assert all((a.arrays[0] == b.arrays[0]).all() for a, b in zip(one, two, strict=True))
    assert (one[0].arrays[0] != other[0].arrays[0]).any()


def test_every_set_has_the_specs_of_the_network() -> None:
    specs = [Spec((2, 3, 20, 12)), Spec((1, 7), "int64"), Spec((1, 7), "bool"), Spec((4, 5, 6)), Spec(())]
    for given in make_inputs(specs, bounds={1: 9}):
        for array, spec in zip(given.arrays, specs, strict=True):
            assert array.shape == spec.shape
            assert str(array.dtype) == spec.dtype
            assert not np.isnan(array.astype(float)).any()
        assert given.arrays[1].min() >= 0 and given.arrays[1].max() < 9


def test_the_natural_picture_is_smooth_where_noise_is_not() -> None:
    picture = natural((3, 64, 64), 0)
    assert picture.min() >= 0 and picture.max() <= 1
    noise = np.random.default_rng(0).random((3, 64, 64))
    step = [np.abs(np.diff(a, axis=2)).mean() / a.std() for a in (picture, noise)]
    assert step[0] < 0.6 * step[1]
    channels = np.corrcoef(picture.reshape(3, -1))
    assert channels[0, 1] > 0.5


def test_pictures_become_inputs_by_scale_mean_and_std(tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[..., 0] = 255
    Image.fromarray(pixels).save(tmp_path / "red.png")
    plain, wide = (
        make_inputs([Spec((1, 3, 24, 24))], images=tmp_path, picture=p, kinds=())[0]
        for p in (None, Picture(255.0, (10.0,), (2.0,)))
    )
    assert plain.name == "red.png"
    assert plain.arrays[0][0, :, 3, 3].tolist() == [1.0, 0.0, 0.0]
    assert wide.arrays[0][0, :, 3, 3].tolist() == [122.5, -5.0, -5.0]
    last = make_inputs([Spec((1, 24, 24, 3))], images=tmp_path / "red.png", kinds=())[0]
    assert last.arrays[0][0, 3, 3].tolist() == [1.0, 0.0, 0.0]


def test_pictures_are_cropped_not_squeezed() -> None:
    wide = np.zeros((32, 64, 3), np.uint8)
    wide[:, 16:48] = 200
    assert fit(wide, 3, 16, 16).shape == (3, 16, 16)
    assert np.allclose(fit(wide, 1, 32, 32), 200 / 255)


def test_missing_and_broken_pictures_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.png"):
        load_images(tmp_path / "nothing.png")
    with pytest.raises(FileNotFoundError, match="no picture"):
        load_images(tmp_path)
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"bad\.png"):
        load_images(tmp_path)


def test_given_inputs_come_first_and_must_fit() -> None:
    specs = [Spec((1, 2))]
    sets = make_inputs(specs, given=[[np.ones((1, 2))]], kinds=("zeros",))
    assert [s.name for s in sets] == ["given 0", "zeros"] and sets[0].arrays[0].dtype == np.float32
    with pytest.raises(ValueError, match=r"\[1, 3\]"):
        make_inputs(specs, given=[[np.ones((1, 3))]])


def test_indices_stay_within_the_tables_that_they_index() -> None:
    graph = Graph(inputs=[Value("tokens", (1, 5), "int64")])
    table = graph.constant(np.zeros((11, 4), np.float32), "embedding")
    flat = graph.add(ops.Reshape((5,)), [graph.inputs[0]]).output
    graph.outputs = [graph.add(ops.Gather(0), [table, flat]).output]
    assert index_bounds(graph) == {0: 11}


def test_indices_that_come_as_floats_lie_in_their_table_and_survive_a_rounding() -> None:
    """Keras 2's Embedding takes float32 by default; random reals were indices out of range."""
    graph = Graph(inputs=[Value("x", (1, 50), "float32")], input_names=["x"])
    table = graph.constant(np.zeros((11, 4), np.float32), "embedding")
    index = graph.add(ops.Cast("int32"), [graph.inputs[0]]).output
    graph.outputs = [graph.add(ops.Gather(0), [table, index]).output]
    bounds = index_bounds(graph)
    assert bounds == {0: 11}
    for given in make_inputs([graph.inputs[0].spec], bounds=bounds):
        (x,) = given.arrays
        assert x.dtype == np.float32 and x.min() >= 0 and x.max() < 11
        assert (np.nextafter(x, np.float32(-1)).astype(int) == x.astype(int)).all()
        assert (np.round(x) == x.astype(int)).all()


def test_a_mean_per_colour_leaves_features_of_other_widths_alone() -> None:
    colours = Picture(2.0, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    features = np.random.default_rng(0).random((8, 6, 6))
    np.testing.assert_array_equal(colours.apply(features), (features * 2).astype(np.float32))
    specs = [Spec((9, 8, 8, 128)), Spec((1, 3, 8, 8))]
    for given in make_inputs(specs, picture=colours):
        assert [a.shape for a in given.arrays] == [s.shape for s in specs]
