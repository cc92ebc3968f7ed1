"""The renderer and the folders it fills."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from awsnet_train.faces.actions import AUS, EMOTIONS, FAINTEST, OPPOSED, PROTOTYPES, SHAPES, expression
from awsnet_train.faces.head import head
from awsnet_train.faces.person import person
from awsnet_train.faces.rasterise import rasterise
from awsnet_train.faces.render import WRINKLES, Scene, blurred, render, scene, through_jpeg
from awsnet_train.faces.write import annotated, faces, write_faces


def test_a_pixel_shows_the_nearest_triangle_that_faces_it():
    """Two triangles over the same corner of a 4x4 picture, the second one nearer and smaller, a third from behind."""
    points = np.array(
        [[0, 4, 0], [4, 4, 0], [0, 0, 0], [0, 4, 1], [2, 4, 1], [0, 2, 1], [0, 4, 2], [4, 4, 2], [0, 0, 2]], np.float32
    )
    pixels, triangles, weights = rasterise(points, np.array([[0, 1, 2], [3, 4, 5], [6, 8, 7]]), 4)
    picture = np.full(16, -1)
    picture[pixels] = triangles
    assert picture.reshape(4, 4).tolist() == [[0, -1, -1, -1], [0, 0, -1, -1], [1, 0, 0, -1], [1, 1, 0, 0]]
    at_first = weights[np.searchsorted(pixels, 4)]  # the centre of row 1, column 0: (0.5, 1.5)
    np.testing.assert_allclose(at_first, [0.25, 0.125, 0.625])


def test_the_same_call_gives_the_same_picture():
    first, second = (list(faces(6, seed=3, size=48, identities=range(9))) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.pixels, b.pixels)
        assert a.label == b.label
    other = next(faces(1, seed=4, size=48, identities=range(9)))
    assert not np.array_equal(first[0].pixels, other.pixels)


def test_a_face_does_not_depend_on_how_many_are_drawn():
    few, many = (list(faces(count, seed=3, size=32, identities=range(9)))[1] for count in (2, 4))
    assert np.array_equal(few.pixels, many.pixels)


def test_identities_are_different_people_and_stay_themselves():
    assert not np.allclose(person(1).vertices, person(2).vertices)
    person.cache_clear()
    assert np.array_equal(person(1).vertices, person(1).vertices)


@pytest.mark.parametrize("au", AUS)
def test_every_au_can_be_seen_even_at_its_faintest(au):
    """Against the same face at rest, in the part of the picture where it acts: brows, eyes and nose, or mouth."""
    rest, active = (render(person(4), intensity, Scene(), 64).astype(int) for intensity in ({}, {au: FAINTEST}))
    change = np.abs(active - rest).max(2)
    assert (change > 12).sum() >= 8, f"only {(change > 12).sum()} pixels change"
    upper = au in ("AU1", "AU2", "AU4", "AU5", "AU6", "AU7", "AU9")
    assert (change[:38].sum() > change[38:].sum()) == upper


def test_the_tables_name_what_there_is():
    names = set(head().actions.names)
    for au, shapes in SHAPES.items():
        assert set(shapes) <= names, au
    assert set(WRINKLES) <= set(AUS)
    assert set(PROTOTYPES) == set(EMOTIONS)
    for prototype in PROTOTYPES.values():
        for variant in prototype.variants:
            assert set(variant) | set(prototype.often) <= set(AUS)


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_an_expression_is_a_variant_of_its_prototype(emotion):
    random = np.random.default_rng(0)
    for _ in range(50):
        intensity = expression(emotion, random, noise=0.0)
        active = {au for au, value in intensity.items() if value > 0}
        assert any(set(variant) <= active for variant in PROTOTYPES[emotion].variants)
        assert all(value == 0 or FAINTEST <= value <= 1 for value in intensity.values())
        assert "AU25" in active or active.isdisjoint({"AU16", "AU26"})


def test_noise_never_opposes_what_is_there():
    random = np.random.default_rng(0)
    pairs = [tuple(pair) for pair in OPPOSED]
    for _ in range(300):
        intensity = expression("neutral", random, noise=0.5)
        for first, second in pairs:
            # AU25 comes with AU16 and AU26, whatever else is there
            if "AU25" not in (first, second):
                assert not (intensity[first] and intensity[second]), (first, second)


@pytest.mark.parametrize(("annotation", "index", "told"), [
    ("full", 0, {"identity", "emotion", "au"}),
    ("halves", 0, {"identity", "emotion"}),
    ("halves", 1, {"identity", "au"}),
    ("patchy", 0, {"identity", "emotion"}),
    ("patchy", 1, {"identity", "au"}),
])  # fmt: skip
def test_annotations_tell_what_they_say(annotation, index, told):
    label = {"identity": 3, "emotion": "fear", "au": dict.fromkeys(AUS, 0.5)}
    given = annotated(label, annotation, index, np.random.default_rng(0))
    assert set(given) == told
    assert (
        len(given.get("au", AUS)) < len(AUS)
        if annotation == "patchy" and index
        else "au" not in told or given["au"] == label["au"]
    )


def test_a_folder_holds_images_and_a_line_for_each(tmp_path):
    write_faces(tmp_path / "new", 5, seed=1, size=40, identities=range(100, 103), annotation="full")
    lines = [json.loads(line) for line in (tmp_path / "new/labels.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines] == [f"images/{index:06}.png" for index in range(5)]
    for line in lines:
        assert Image.open(tmp_path / "new" / line["image"]).size == (40, 40)
        assert line["identity"] in range(100, 103)
        assert line["emotion"] in EMOTIONS
        assert set(line["au"]) == set(AUS)
    with pytest.raises(FileExistsError, match="is not empty"):
        write_faces(tmp_path / "new", 1, seed=1, size=40, identities=range(1), annotation="full")


def test_a_mouth_at_rest_is_fainter_than_the_faintest_au():
    """What an identity's mouth does by itself must not look like an AU that its label denies."""
    for identity in range(300):
        for shape, weight in person(identity).resting.items():
            of_aus = [FAINTEST * shapes[shape] for shapes in SHAPES.values() if shapes.get(shape, 0) >= 0.5]
            assert 0 <= weight < min(of_aus, default=1.0), (identity, shape)


@pytest.mark.parametrize("what", [
    {"glasses": True},
    {"beard": 1.0, "moustache": True},
    {"beard": 1.0, "moustache": False},
    {"brow_height": 7.48},
])  # fmt: skip
def test_what_a_person_wears_can_be_seen(what):
    plain = replace(person(4), glasses=False, beard=0.0, brow_height=7.42)
    before, after = (render(who, {}, Scene(), 64).astype(int) for who in (plain, replace(plain, **what)))
    assert (np.abs(after - before).max(2) > 12).sum() >= 20


def test_a_blur_keeps_the_mean_and_spreads_a_point():
    image = np.zeros((21, 21, 3))
    image[10, 10] = 100.0
    soft = blurred(image, 1.5)
    np.testing.assert_allclose(soft.sum((0, 1)), 100.0, rtol=1e-4)
    columns = np.arange(21) - 10
    np.testing.assert_allclose((soft[:, :, 0].sum(0) * columns**2).sum() / 100, 1.5**2, rtol=0.05)
    np.testing.assert_allclose(blurred(np.full((9, 9, 3), 7.0), 2.0), 7.0)


def test_a_worse_jpeg_file_loses_more():
    picture = render(person(4), {}, Scene(noise=4.0), 64)
    losses = [np.abs(through_jpeg(picture, quality).astype(int) - picture).mean() for quality in (95, 60, 20)]
    assert losses == sorted(losses)
    assert losses[0] < losses[2]


def test_less_zoom_leaves_room_around_the_head():
    near, far = (next(faces(1, seed=5, size=64, identities=range(9), zoom=zoom)) for zoom in (1.0, 0.5))
    assert near.label == far.label
    assert not np.array_equal(near.pixels, far.pixels)
    edges = np.concatenate([far.pixels[0], far.pixels[:, 0], far.pixels[:, -1]]).astype(int)
    assert np.abs(np.diff(edges, axis=0)).mean() < 12  # background alone


def test_a_scene_keeps_the_face_in_the_picture():
    for seed in range(200):
        where = scene(np.random.default_rng(seed))
        assert abs(where.yaw) <= 0.85
        assert max(map(abs, where.shift)) <= 0.05
        assert 0.92 <= where.zoom <= 1.12
