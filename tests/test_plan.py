"""What a run will do is decided before it starts, said, and read back unchanged."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.config import AugmentConfig, TrainConfig
from sightline.errors import UsageError
from sightline.training.plan import FROZEN_NORM_BELOW, MAX_SCRATCH_EPOCHS, MIN_SCRATCH_EPOCHS, Plan, make_plan, mirroring_matters


def test_pretrained_weights_are_probed_and_then_fine_tuned_gently():
    plan = make_plan(TrainConfig(), 500, pretrained=True)
    assert (plan.probe, plan.freeze_norm, plan.epochs, plan.frozen_epochs) == (True, True, 10, 0)
    assert (plan.optimizer, plan.lr, plan.backbone_lr_scale, plan.weight_decay) == ("adamw", 1e-3, 0.1, 0.05)
    assert plan.reasons == (
        "First the backbone stays frozen: a logistic regression on its embeddings becomes the head.",
        "All layers together learn for up to 10 epochs (adamw, at 0.001, the backbone at 0.0001).",
        "Batch normalisation keeps its pretrained statistics, as 500 images would give noisy ones.",
        "It stops early after 10 epochs without a better validation loss; the best epoch is kept.",
    )


def test_random_weights_learn_all_together_and_faster():
    plan = make_plan(TrainConfig(), 500, pretrained=False)
    assert (plan.probe, plan.freeze_norm, plan.frozen_epochs, plan.backbone_lr_scale, plan.lr) == (False, False, 0, 1.0, 2e-3)
    assert plan.reasons[0] == "The whole network learns for up to 80 epochs (adamw, at 0.002)."


@pytest.mark.parametrize(
    ("n_train", "epochs"), [(1, MAX_SCRATCH_EPOCHS), (100, MAX_SCRATCH_EPOCHS), (3200, 12), (10**6, MIN_SCRATCH_EPOCHS)]
)
def test_from_random_weights_steps_count_more_than_epochs(n_train, epochs):
    assert make_plan(TrainConfig(), n_train, pretrained=False).epochs == epochs


def test_many_images_have_batch_statistics_of_their_own():
    assert not make_plan(TrainConfig(), FROZEN_NORM_BELOW, pretrained=True).freeze_norm


@pytest.mark.parametrize(("pretrained", "lr"), [(True, 1e-2), (False, 5e-2)])
def test_sgd_has_its_own_defaults(pretrained, lr):
    plan = make_plan(TrainConfig(optimizer="sgd"), 500, pretrained=pretrained)
    assert (plan.lr, plan.weight_decay, plan.momentum) == (lr, 5e-4, 0.9)


def test_what_is_asked_for_is_planned():
    config = TrainConfig(epochs=7, frozen_epochs=3, batch_size=8, lr=0.5, backbone_lr_scale=0.0, weight_decay=0.0, warmup=0.0, ema=0.0,
                         clip_norm=0.0, patience=1)  # fmt: skip
    plan = make_plan(config, 500, pretrained=True)
    elsewhere = ("label_smoothing", "balance", "precision", "budget", "layers", "start_size", "preset", "compile")
    asked = {name: getattr(config, name) for name in vars(config) if name not in elsewhere}
    assert {name: getattr(plan, name) for name in asked} == asked
    assert "For 3 epochs only the head learns." in plan.reasons
    assert "for up to 4 epochs (adamw, at 0.5, the backbone at 0)" in plan.reasons[2]
    assert "after 1 epoch without" in plan.reasons[-1]


def test_no_more_epochs_are_frozen_than_there_are():
    plan = make_plan(TrainConfig(epochs=2, frozen_epochs=5), 500, pretrained=False)
    assert (plan.epochs, plan.frozen_epochs) == (2, 2)
    assert plan.reasons[0] == "For 2 epochs only the head learns."
    assert not any("whole network" in reason for reason in plan.reasons)


@given(
    st.integers(1, 10**6), st.booleans(), st.sampled_from(["adamw", "sgd"]), st.none() | st.integers(1, 50), st.none() | st.integers(0, 50)
)
def test_a_plan_is_whole_and_its_json_is_the_same_plan(n_train, pretrained, optimizer, epochs, frozen):
    plan = make_plan(TrainConfig(optimizer=optimizer, epochs=epochs, frozen_epochs=frozen), n_train, pretrained=pretrained)
    assert all(value is not None for name, value in vars(plan).items() if name != "sizes")
    assert 0 <= plan.frozen_epochs <= plan.epochs
    assert Plan.from_json(json.loads(json.dumps(plan.to_json(), allow_nan=False))) == plan


def test_a_plan_of_another_version_is_refused():
    fields = make_plan(TrainConfig(), 10, pretrained=False).to_json()
    for other in ({**fields, "momentous": 1}, {name: fields[name] for name in fields if name != "lr"}, {}):
        with pytest.raises(UsageError, match="planned by another version of Sightline"):
            Plan.from_json(other)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (("left arm", "right_arm"), "the class name 'left arm' tells left from right"),
        (("ok", "crack-Left"), "the class name 'crack-Left' tells left from right"),
        (tuple("0123456789"), "class names such as '0' look like letters or digits"),
        (("one", "two", "three"), "class names such as 'one' look like letters or digits"),
        (("text", "photo", "drawing"), None),
        (("leftover", "bright"), None),
        (("a", "tree", "house"), None),
        ((), None),
    ],
)
def test_class_names_tell_whether_mirroring_matters(labels, reason):
    assert mirroring_matters(labels) == reason


def test_images_are_mirrored_unless_names_or_the_user_say_no():
    def flips(labels, flip=None):
        return make_plan(TrainConfig(), 500, pretrained=True, labels=labels, augment=AugmentConfig(flip=flip))

    assert flips(("cat", "dog")).flip
    assert not flips(("cat", "dog"), flip=False).flip
    digits = flips("0123456789")
    assert not digits.flip
    assert (
        "Images are not mirrored, because class names such as '0' look like letters or digits; --flip mirrors them all the same."
        in digits.reasons
    )
    asked = flips("0123456789", flip=True)
    assert asked.flip
    assert "Images are mirrored, as asked, although class names such as '0' look like letters or digits." in asked.reasons


def test_a_network_without_normalisation_learns_slowly():
    plan = make_plan(TrainConfig(), 500, pretrained=False, normalised=False)
    assert plan.lr == pytest.approx(2e-4)
    assert "The rate is low because this network has no normalisation layers." in plan.reasons
    assert make_plan(TrainConfig(lr=0.5), 500, pretrained=False, normalised=False).lr == 0.5


def test_imbalance_is_said_or_met():
    def reasons(imbalance, lies=None, **settings):
        return " ".join(make_plan(TrainConfig(**settings), 500, pretrained=True, imbalance=imbalance, lies=lies).reasons)

    assert "The largest class has 40 times the images of the smallest; --balance" in reasons(40.0)
    assert "The largest class has 40 times the objects of the smallest" in reasons(40.0, "boxes")
    assert "The largest class has 40 times the pixels of the smallest" in reasons(40.0, "maps")
    assert "times the images" not in reasons(9.0) + reasons(40.0, balance="weights") + reasons(40.0, balance="sampling")
    assert "rare classes weigh as much" in reasons(40.0, balance="weights")
    assert "as often as common ones" in reasons(40.0, balance="sampling")


def test_the_last_epoch_is_kept_when_asked_for():
    assert make_plan(TrainConfig(keep="last"), 500, pretrained=True).reasons[-1] == "The last epoch is kept, as asked."


def any_side(side):
    return True


@pytest.mark.parametrize(("size", "sizes"), [(32, (20, 32)), (28, (16, 28)), (64, (36, 64)), (224, (128, 224)), (24, None), (8, None)])
def test_from_scratch_images_grow_where_there_is_something_to_see_in_small_ones(size, sizes):
    plan = make_plan(TrainConfig(), 500, pretrained=False, size=size, takes=any_side)
    assert plan.sizes == sizes
    assert any(f"grow to {size} px" in reason for reason in plan.reasons) == (sizes is not None)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_images_do_not_grow_for_pretrained_weights_nor_where_the_network_cannot():
    assert make_plan(TrainConfig(), 500, pretrained=True, size=224, takes=any_side).sizes is None
    assert make_plan(TrainConfig(), 500, pretrained=False, size=224).sizes is None
    assert make_plan(TrainConfig(start_size=160), 500, pretrained=True, size=224, takes=any_side).sizes == (160, 224)
    assert make_plan(TrainConfig(start_size=224), 500, pretrained=False, size=224, takes=any_side).sizes is None
    with pytest.raises(UsageError, match="--start-size 160: this network only takes images of 224 px"):
        make_plan(TrainConfig(start_size=160), 500, pretrained=True, size=224)


@given(st.integers(8, 300), st.integers(8, 300), st.integers(1, 60))
def test_images_grow_from_the_first_side_to_the_last_and_never_shrink(first, last, epochs):
    first, last = sorted((first, last))
    plan = replace(make_plan(TrainConfig(), 500, pretrained=False), sizes=(first, last))
    sides = [plan.size_at(epoch, epochs) for epoch in range(1, epochs + 1)]
    assert sides[0] == first or epochs == 1
    assert sides == sorted(sides)
    assert sides[-1] == last
    assert make_plan(TrainConfig(), 500, pretrained=False).size_at(1, epochs) is None


def test_a_budget_leaves_the_number_of_epochs_open():
    assert make_plan(TrainConfig(budget="10m"), 5000, pretrained=False).epochs == MAX_SCRATCH_EPOCHS
    assert make_plan(TrainConfig(budget="10m", epochs=7), 5000, pretrained=False).epochs == 7


def test_random_weights_are_not_learned_in_some_layers_only():
    with pytest.raises(UsageError, match="--layers upper: random weights have to be learned in all layers"):
        make_plan(TrainConfig(layers="upper"), 500, pretrained=False)
