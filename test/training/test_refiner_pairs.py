"""Pairs: windows as the crops', truths that are the nearest equivalent ones, hypotheses as configured."""

import dataclasses
import math

import pytest
import torch
from evaluation_scene import objects
from refiner_run import TINY_REFINER, make_pair_synthesizer, write_images

from shared_pose_ros.geometry.rotations import random_rotations, rotation_angle, rotation_from_vector
from shared_pose_ros.meshes.object_set import ObjectSet
from shared_pose_ros.meshes.symmetries import Symmetries
from shared_pose_ros.rendering.rasterizer import make_rasterizer
from shared_pose_ros.training.augmentation import Draw
from shared_pose_ros.training.refiner_pairs import NetworkAnswers, draw_hypotheses, image_settings, sample_shares


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Without a detector's noise: a crop shows exactly its window."""
    folder = tmp_path_factory.mktemp("images")
    exact = {"crop_shift": 0.0, "crop_scale": 0.0}
    first = write_images(folder, "near", distance=(0.5, 0.5), **exact)
    return f"{first},{write_images(folder, 'far', distance=(1.2, 1.2), brightness=(1.0, 1.0), **exact)}"


@pytest.fixture(scope="module")
def axial():
    """Two boxes; the second one counts as if it were turned on a lathe, with a half turn across."""
    first, second = objects()
    lathe = Symmetries.from_axes([{"axis": [0, 0, 1], "fold": "continuous"}, {"axis": [1, 0, 0], "fold": 2}])
    return ObjectSet((first, dataclasses.replace(second, symmetries=lathe)))


@pytest.fixture(scope="module")
def synthesizer(photographs, images, axial):
    return make_pair_synthesizer(make_rasterizer(), photographs, images, axial)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_render_of_the_truth_has_the_window_of_its_crop(synthesizer):
    index, rotations = torch.tensor([0, 1, 0, 1, 1]), random_rotations(5, generator())
    settings, _ = synthesizer.images[0]
    _, alpha, surface = synthesizer._render(index, rotations, Draw(5, generator()), settings)
    distance = settings.distance[0] / synthesizer.metres[index]
    renders = synthesizer.renderer.render(index, rotations, distance, synthesizer.crop_size)
    covered = renders[:, 1:].abs().sum(dim=1) > 0
    assert (covered == (alpha[:, 0] > 0)).all() and covered.any(dim=(1, 2)).all()
    torch.testing.assert_close(renders[:, 1:], surface[:, :3], atol=1e-4, rtol=0)
    # It would not be so with another pad.
    synthesizer.renderer.crop_pad *= 1.1
    other = synthesizer.renderer.render(index, rotations, distance, synthesizer.crop_size)
    synthesizer.renderer.crop_pad /= 1.1
    assert ((other[:, 1:].abs().sum(dim=1) > 0) != covered).any()


def test_targets_are_the_nearest_equivalent_truths(synthesizer, axial):
    pairs = synthesizer.pairs(12, generator())
    assert set(pairs.object_index.tolist()) == {0, 1}
    moved = 0
    for row, crop in enumerate(pairs.crop_of.tolist()):
        symmetries = axial[int(pairs.object_index[crop])].symmetries.rotations(0.002)
        equivalent = pairs.truth[crop].double() @ torch.from_numpy(symmetries)
        angles = rotation_angle(equivalent, pairs.hypotheses[row].double())
        found = pairs.nearest_truth[row].double()
        assert rotation_angle(found, pairs.hypotheses[row].double()) <= angles.min() + 1e-3
        assert rotation_angle(equivalent, found).min() < math.radians(0.2)  # itself an equivalent pose
        moved += int(rotation_angle(found, pairs.truth[crop].double()) > 0.1)
    assert moved > 0


def test_hypotheses_are_perturbed_flipped_or_random_as_configured():
    truth = random_rotations(400, generator(1))

    def angles(**changes):
        config = dataclasses.replace(TINY_REFINER, **{"random_share": 0.0, "flipped_share": 0.0, **changes})
        found = draw_hypotheses(truth, config, generator())
        assert found.shape == (400, 2, 3, 3)
        torch.testing.assert_close(found @ found.mT, torch.eye(3).expand_as(found), atol=1e-5, rtol=0)
        return torch.rad2deg(rotation_angle(found, truth[:, None])).flatten()

    # |N(0, σ² I)| in three dimensions has the mean σ √(8/π).
    assert angles(perturbations=(5.0,) * 5).mean() == pytest.approx(5 * math.sqrt(8 / math.pi), rel=0.05)
    quarters = angles(perturbations=(1e-3,) * 5, flipped_share=1.0)
    assert set(quarters.round().int().tolist()) == {90, 180}
    # A random rotation is by 126.5° in the mean: π/2 + 2/π.
    assert angles(random_share=1.0).mean() == pytest.approx(math.degrees(math.pi / 2 + 2 / math.pi), rel=0.03)
    far = (angles(perturbations=(1e-3,) * 5, random_share=0.3) > 1).float().mean()
    assert far == pytest.approx(0.3, abs=0.06)


def test_images_alternate_and_pairs_follow_from_the_seed(synthesizer):
    near, far, again = (synthesizer.pairs(3, generator(5), kind) for kind in (0, 1, 2))
    assert torch.equal(near.crops, again.crops) and torch.equal(near.renders, again.renders)
    assert torch.equal(near.hypotheses, far.hypotheses) and not torch.equal(near.crops, far.crops)
    assert near.renders.shape == (6, 4, 64, 64) and near.crop_of.tolist() == [0, 0, 1, 1, 2, 2]


def test_the_first_set_has_its_share_of_the_samples():
    shares = sample_shares([2, 3, 1], [0.5])
    torch.testing.assert_close(shares, torch.tensor([1 / 4, 1 / 4, 1 / 8, 1 / 8, 1 / 8, 1 / 8]))
    torch.testing.assert_close(sample_shares([4], [0.3]), torch.full((4,), 0.25))
    both = sample_shares([1, 2, 1, 1], [0.5, 0.2])
    torch.testing.assert_close(both, torch.tensor([0.5, 0.1, 0.1, 0.15, 0.15]))
    torch.testing.assert_close(sample_shares([1, 1], [0.6, 0.2]), torch.tensor([0.75, 0.25]))


def test_images_of_two_pads_are_refused(tmp_path):
    names = f"{write_images(tmp_path, 'a', crop_pad=1.2)},{write_images(tmp_path, 'b', crop_pad=1.5)}"
    with pytest.raises(ValueError, match=r"differ in crop_pad .*1\.2.*1\.5.*one pad"):
        image_settings(dataclasses.replace(TINY_REFINER, images=names))
    with pytest.raises(ValueError, match="no preset 'none'"):
        image_settings(dataclasses.replace(TINY_REFINER, images="none"))


def numbered(which, count):
    """A network whose answer i for its object j is a turn about z by which + j + i/10 radians."""

    def network(crops, index):
        angle = which + index[:, None] + torch.arange(count) / 10
        return rotation_from_vector(torch.nn.functional.pad(angle[..., None], (2, 0)))

    return network


def about_z(rotations):
    return torch.atan2(rotations[..., 1, 0], rotations[..., 0, 0])


def test_answers_come_from_the_network_that_knows_the_object():
    first, second = objects()
    three = ObjectSet((first, second, dataclasses.replace(first, class_id="third", aliases=())))
    networks = [(numbered(0.0, 4), ["other", second.class_id]), (numbered(0.5, 2), ["third"])]
    answers = NetworkAnswers(networks, three)
    crops = torch.zeros(6, 3, 64, 64)
    found, known = answers.draw(crops, torch.tensor([1, 0, 2, 1, 2, 0]), 3, generator())
    assert answers.known == 2 and known.tolist() == [True, False, True, True, True, False]
    tenths = torch.round(10 * about_z(found)).long()
    for row in (0, 3):  # three of four, none twice
        assert set(tenths[row].tolist()) <= {10, 11, 12, 13} and len(set(tenths[row].tolist())) == 3
    for row in (2, 4):  # both, and one of them again
        assert set(tenths[row].tolist()) == {5, 6}


def test_a_share_of_the_hypotheses_is_answered(photographs, images, axial):
    answers = NetworkAnswers([(numbered(0.5, 6), [axial.class_ids[1]])], axial)
    synthesizer = make_pair_synthesizer(make_rasterizer(), photographs, images, axial, answers, answered_share=0.6)
    pairs = [synthesizer.pairs(32, generator(seed)) for seed in range(4)]
    upright = torch.cat([each.hypotheses[:, 2, 2] > 1 - 1e-6 for each in pairs])
    index = torch.cat([each.object_index[each.crop_of] for each in pairs])
    assert not upright[index == 0].any()
    assert upright[index == 1].float().mean() == pytest.approx(0.6, abs=0.1)
