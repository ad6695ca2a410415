"""What is closed and wound outwards, and which vertices are one place."""

import numpy as np
from shapes import box, inside_out, joined, soup, tetrahedron

from shared_pose_ros.geometry.closed_surface import is_closed, pieces, same_places


def test_closed_is_what_solids_wound_outwards_are():
    solid, beside = box(2.0, 1.2, 0.6), (tetrahedron()[0] + 5.0, tetrahedron()[1])
    for mesh in (solid, tetrahedron(), joined(solid, beside), joined(solid, solid), soup(solid)):
        assert is_closed(*mesh)
    hole = solid[0], solid[1][1:]
    half_turned = solid[0], np.concatenate([solid[1][:6], solid[1][6:, ::-1]])
    hollow = joined(box(4.0, 4.0, 4.0), inside_out(solid))
    for mesh in (hole, half_turned, inside_out(solid), joined(solid, inside_out(beside)), hollow):
        assert not is_closed(*mesh)


def test_places_are_those_of_rounded_corners_in_the_order_of_x_y_z():
    points = np.array([[2.0, 0, 0], [0, 1, 0], [0, 0, 0], [2.0 + 1e-8, 0, 0], [0, 1.0, 1e-8]])
    first, place = same_places(points)
    assert first.tolist() == [2, 1, 0] and place.tolist() == [2, 1, 0, 2, 1]
    assert same_places(np.ones((3, 3)))[1].tolist() == [0, 0, 0]
    grid = np.stack(np.meshgrid(*[np.array([0.0, 1e-5, 1.0])] * 3), axis=-1).reshape(-1, 3)
    assert len(same_places(grid)[0]) == 27


def test_pieces_are_found_along_any_direction_of_their_edges():
    chain = np.random.default_rng(0).permutation(1000)
    starts, ends = np.concatenate([chain[:499], chain[501:-1]]), np.concatenate([chain[1:500], chain[502:]])
    label = pieces(starts, ends, 1000)
    assert set(label[chain[:500]]) == {chain[:500].min()} and set(label[chain[501:]]) == {chain[501:].min()}
    assert label[chain[500]] == chain[500]
