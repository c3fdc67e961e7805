from dataclasses import replace

import numpy as np
import pytest

from reidkit.synthetic.pose import Pose, Proportions, articulate, sample_pose

BODY = Proportions(height=1.8, girth=1.0, shoulders=0.11, hips=0.1)
STILL = Pose(phase=0.0, stride=0.0, lean=0.0, nod=0.0, turn=0.0, arms=("swing", "swing"))


def test_a_standing_body_is_symmetric_and_has_its_height() -> None:
    skeleton = articulate(BODY, STILL)
    mirror = np.array([-1, 1, 1])
    for pair in (skeleton.shoulders, skeleton.elbows, skeleton.wrists, skeleton.hips, skeleton.knees, skeleton.toes):
        np.testing.assert_allclose(pair[0], pair[1] * mirror, atol=1e-6)
    crown = skeleton.head[1] + 0.068 * BODY.height
    assert crown == pytest.approx(BODY.height, rel=0.03)


@pytest.mark.parametrize("phase", np.linspace(0, 2 * np.pi, 9))
def test_bones_keep_their_lengths_and_the_feet_stay_on_the_ground(phase: float) -> None:
    skeleton = articulate(BODY, replace(STILL, phase=phase, stride=0.45))
    bones = [
        (skeleton.hips, skeleton.knees, 0.245),
        (skeleton.knees, skeleton.ankles, 0.235),
        (skeleton.shoulders, skeleton.elbows, 0.170),
        (skeleton.elbows, skeleton.wrists, 0.145),
    ]
    for start, end, share in bones:
        np.testing.assert_allclose(np.linalg.norm(end - start, axis=1), share * BODY.height, rtol=1e-4)
    lowest = min(skeleton.ankles[:, 1].min() / 0.038, skeleton.toes[:, 1].min() / 0.012) / BODY.height
    assert lowest == pytest.approx(1, abs=1e-3)


def test_legs_swing_against_each_other_and_arms_against_the_legs() -> None:
    skeleton = articulate(BODY, replace(STILL, phase=np.pi / 2, stride=0.45))
    assert skeleton.knees[0, 2] > 0.1
    assert skeleton.knees[1, 2] < -0.1
    assert skeleton.wrists[0, 2] < skeleton.wrists[1, 2]


def test_a_phone_is_held_up_and_a_pocketed_hand_stays_at_the_hip() -> None:
    skeleton = articulate(BODY, replace(STILL, arms=("phone", "pocket")))
    assert skeleton.wrists[0, 1] > skeleton.elbows[0, 1]
    assert abs(skeleton.wrists[1, 1] - skeleton.pelvis[1]) < 0.15 * BODY.height


def test_a_carried_bag_stills_that_arm() -> None:
    rng = np.random.default_rng(0)
    poses = [sample_pose(rng, 0.4, "right") for _ in range(200)]
    assert {pose.arms[1] for pose in poses} == {"carry"}
    assert {pose.arms[0] for pose in poses} == {"swing", "phone", "pocket"}
    standing = np.mean([pose.stride < 0.1 for pose in poses])
    assert 0.05 < standing < 0.3
