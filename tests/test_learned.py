"""What a network learned, drawn: the right parts of the right images, images that excite, and a network left as it was."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sightline.data.prepare import Prepare
from sightline.model.backbone import BackboneSpec, ModuleBackbone, build
from sightline.model.heads.classify import make_head
from sightline.model.network import Network
from sightline.report.learned import learned_blocks
from sightline.tasks.blocks import Gallery, Text
from sightline.trust.filters import filter_grid, filter_pixels, first_filters
from sightline.trust.learned import learned
from sightline.trust.patches import PATCHES, field_of, patch_of, selective_channels, strongest_of
from sightline.trust.places import Place, maps_at, stages_of
from sightline.trust.visualise import Colours, excite, redirected
from tiny import tiny_network

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
LONG = 600.0


def of_module(module: nn.Module, size: int = 32, channels: int = 3) -> Network:
    prepare = Prepare(size, mean=(0.5,) * channels, std=(0.5,) * channels, channels=channels)
    backbone = ModuleBackbone(module, 4)
    return Network(backbone, make_head(4, 2, 0.0), prepare)


def of_name(name: str, size: int) -> Network:
    torch.manual_seed(0)
    backbone = build(BackboneSpec(name, size))
    return Network(backbone, make_head(backbone.num_features, 3, 0.0), Prepare(size))


def stack(size: int = 32, channels: int = 3) -> Network:
    """Three convolutions, each halving the map but for the first."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(channels, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU(), nn.Conv2d(12, 16, 3, 2, 1), nn.ReLU()]
    return of_module(nn.Sequential(*layers), size, channels)


def noise(n: int, size: int = 32, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, channels), np.uint8)


def looked_at(network: Network, images: np.ndarray, seconds: float = LONG):
    names = [f"{row:03d}.png" for row in range(len(images))]
    found = learned(network, lambda rows: images[rows], names, CPU, seconds=seconds, seed=0)
    json.dumps(found.numbers, allow_nan=False)
    assert all(key.startswith("learned/") for key in found.pictures)
    for content in found.pictures.values():
        Image.open(io.BytesIO(content)).load()
    return found


# Places


@pytest.mark.parametrize(
    ("name", "size", "maps", "layout"),
    [
        ("resnet10t", 96, [24, 6, 3], "first"),
        ("torchvision/resnet18", 96, [24, 6, 3], "first"),
        ("torchvision/googlenet", 96, [24, 6, 3], "first"),
        ("vit_tiny_patch16_224", 64, [4, 4, 4], "tokens"),
        ("swin_tiny_patch4_window7_224", 64, [8, 4, 2], "last"),
    ],
)
def test_three_stages_are_found_in_any_kind_of_network(name, size, maps, layout):
    network = of_name(name, size).eval()
    images = torch.from_numpy(noise(2, size)).float()
    places = stages_of(network, images)
    assert [place.stage for place in places] == ["early", "middle", "late"]
    assert [place.rows for place in places] == maps
    assert {place.layout for place in places} <= {layout, "first"}
    with torch.no_grad():
        for place, values in zip(places, maps_at(network, images, places), strict=True):
            assert values.shape == (2, place.channels, place.rows, place.columns)


def test_tokens_become_a_map_without_the_class_token():
    place = Place("blocks", "tokens", 3, 2, 2, prefix=1)
    tokens = torch.arange(15.0).reshape(1, 5, 3)
    values = place.map_of(tokens)
    assert values.shape == (1, 3, 2, 2)
    assert values[0, 0].tolist() == [[3, 6], [9, 12]]


def test_a_module_of_ones_own_has_as_many_stages_as_it_has_sizes():
    module = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(inplace=True), nn.Conv2d(6, 4, 3, 2, 1))
    places = stages_of(of_module(module).eval(), torch.from_numpy(noise(2)).float())
    assert [place.rows for place in places][-1] == 8
    assert len(places) == len({place.module for place in places})


# Patches


def test_the_strongest_answer_is_found_with_its_cell():
    values = torch.zeros(1, 2, 4, 4)
    values[0, 0, 1, 3], values[0, 1, 2, 0] = 5, 7
    strongest, cells = strongest_of(values)
    assert strongest.tolist() == [[5, 7]]
    assert cells.tolist() == [[7, 8]]


def test_on_larger_maps_neighbours_count_and_the_rim_does_not():
    values = torch.zeros(1, 1, 8, 8)
    values[0, 0, 0, 0] = 9  # one ninth of it counts at (1, 1)
    values[0, 0, 4:7, 2:5] = 2
    strongest, cells = strongest_of(values)
    assert strongest.item() == 2
    assert cells.item() == 5 * 8 + 3


def test_channels_that_answer_to_few_images_are_chosen_once_each():
    rng = np.random.default_rng(0)
    strongest = rng.random((40, 16)).astype(np.float32)
    strongest[:6, 3] += 20
    strongest[:6, 4] += 15  # to the same images
    strongest[10:16, 5] += 20
    strongest[:, 6] = 50  # strong, and the same for all
    strongest[20, 7] = np.nan
    chosen = selective_channels(strongest)
    assert chosen[:2] in ([3, 5], [5, 3])
    assert not {4, 6, 7} & set(chosen)


def test_patches_lie_around_the_cell_and_within_the_image():
    image = np.arange(64 * 64).reshape(64, 64, 1)
    middle = patch_of(image, 2 * 4 + 1, 4, 20)
    assert middle.shape == (20, 20, 1)
    assert middle[10, 10, 0] == 40 * 64 + 24  # the cell (2, 1) of 16 pixels
    assert patch_of(image, 0, 4, 20)[0, 0, 0] == 0
    assert patch_of(image, 15, 4, 20)[-1, -1, 0] == 64 * 64 - 1
    assert patch_of(image, 5, 4, 64).shape == (64, 64, 1)


def test_the_field_grows_with_depth_and_is_unknown_without_a_gradient():
    torch.manual_seed(0)
    network = of_module(nn.Sequential(*(nn.Conv2d(3, 3, 5, padding=2) for _ in range(6))), 96).eval()
    images = torch.from_numpy(noise(2, 96)).float()
    first, last = (field_of(network, Place(f"inner.{layer}", "first", 3, 96, 96), images) for layer in (0, 5))
    assert 5 <= first <= last <= 25

    class Shut(nn.Module):
        def forward(self, images):
            with torch.no_grad():
                return images[:, :, ::4, ::4] + 0

    shut = of_module(nn.Sequential(Shut(), nn.Identity()))
    found = looked_at(shut, noise(30))
    assert "no gradient" in " ".join(found.numbers["reasons"])
    assert all(entry["excited"] is None for stage in found.numbers["stages"] for entry in stage["drawn"])


class Detector(nn.Module):
    """A channel that answers to red spots, one to green ones, and two to nothing in particular."""

    def __init__(self) -> None:
        super().__init__()
        self.colours = nn.Conv2d(3, 4, 4, 4, bias=False)
        with torch.no_grad():
            self.colours.weight.zero_()
            self.colours.weight[0] += torch.tensor([2.0, -1, -1])[:, None, None] / 16
            self.colours.weight[1] += torch.tensor([-1.0, 2, -1])[:, None, None] / 16
        self.shut = nn.ReLU(inplace=True)

    def forward(self, images):
        return self.shut(self.colours(images))


def test_patches_show_what_was_planted_and_come_from_the_images_that_have_it():
    images = np.random.default_rng(0).integers(90, 110, (40, 32, 32, 3)).astype(np.uint8)
    for row in range(6):
        images[row, 12:16, 20:24] = (250, 20, 20)
        images[row + 10, 20:24, 12:16] = (20, 250, 20)
    found = looked_at(of_module(Detector()), images)
    drawn = {entry["channel"]: entry for stage in found.numbers["stages"] for entry in stage["drawn"]}
    assert set(drawn) == {0, 1}
    assert sorted(drawn[0]["images"]) == [f"{row:03d}.png" for row in range(6)]
    assert sorted(drawn[1]["images"]) == [f"{row:03d}.png" for row in range(10, 16)]
    picture = np.asarray(Image.open(io.BytesIO(found.pictures[drawn[0]["picture"]]))).astype(int)
    patch = picture[-60:-40, -60:-40].mean(axis=(0, 1))  # in the middle of the last patch
    assert patch[0] > patch[1] + 100


# Images that excite


def test_an_image_made_to_excite_a_channel_has_what_the_channel_looks_for():
    network = of_module(Detector()).eval()
    place = Place("inner.shut", "first", 4, 8, 8)
    colours = Colours.of(torch.from_numpy(noise(4)).float())
    red, green = excite(network, place, [0, 1], 32, 30, colours, 0).images.astype(int)
    assert red[..., 0].mean() > red[..., 1].mean()
    assert green[..., 1].mean() > green[..., 0].mean()
    few, many = (excite(network, place, [0, 1], 32, steps, colours, 0).reached for steps in (1, 30))
    assert (many > few).all()


def test_gradients_get_through_rectifiers_that_are_shut_and_answers_stay_the_same():
    network = of_module(nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(inplace=True), nn.Conv2d(2, 2, 1))).eval()
    with torch.no_grad():
        network.backbone.inner[0].bias.fill_(-100)
    images, places = torch.from_numpy(noise(2)).float().requires_grad_(), [Place("inner.2", "first", 2, 30, 30)]
    (shut,) = maps_at(network, images, places)
    with redirected(network):
        (opened,) = maps_at(network, images, places)
    gradients = [torch.autograd.grad(values.sum(), images)[0] for values in (shut, opened)]
    torch.testing.assert_close(opened, shut)
    assert (gradients[0] == 0).all()
    assert (gradients[1] != 0).any()


# Filters


def test_no_weight_is_grey_and_the_largest_is_black_or_white():
    weights = np.zeros((3, 1, 3, 3), np.float32)
    weights[0, 0, 1, 1], weights[1, 0, 0, 0] = -0.2, 4.0
    pixels = filter_pixels(weights)
    assert pixels.shape == (3, 3, 3, 1)
    assert (pixels[0, 1, 1, 0], pixels[1, 0, 0, 0], pixels[2, 1, 1, 0]) == (1, 255, 128)
    assert np.median(pixels) == 128


@pytest.mark.parametrize(("n", "inputs", "side"), [(1, 1, 3), (32, 3, 7), (100, 5, 16)])
def test_filters_are_drawn_in_a_grid_wider_than_high(n, inputs, side):
    weights = np.random.default_rng(0).normal(size=(n, inputs, side, side)).astype(np.float32)
    picture = Image.open(io.BytesIO(filter_grid(weights)))
    assert picture.mode == "RGBA"
    assert picture.width >= picture.height
    assert first_filters(nn.Sequential(nn.Conv2d(inputs, 2, 3)), inputs).weights.shape == (2, inputs, 3, 3)


# The whole


def test_the_network_and_all_random_numbers_are_left_as_they_were():
    network = tiny_network()
    network.train()
    network.backbone.inner.conv1.eval()
    for parameter in network.head.parameters():
        parameter.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    wanted = [parameter.requires_grad for parameter in network.parameters()]
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    state, ours = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    assert looked_at(network, noise(30)).numbers["stages"]
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == ours).all()  # noqa: NPY002
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert [module.training for module in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == wanted
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_the_same_seed_gives_the_same_pictures():
    first, second = (looked_at(stack(), noise(30)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(("size", "channels"), [(32, 1), (32, 5), (8, 3)])
def test_small_images_and_other_channels_are_drawn(size, channels):
    found = looked_at(stack(size, channels), noise(30, size, channels))
    assert found.numbers["filters"]["channels"] == channels
    assert [stage["stage"] for stage in found.numbers["stages"]] == ["early", "middle", "late"]
    assert all(len(entry["images"]) == PATCHES for stage in found.numbers["stages"] for entry in stage["drawn"])
    note = learned_blocks(found.numbers)[1].note
    assert ("the mean over the image's 5 channels" in note) == (channels == 5)


@pytest.mark.parametrize(
    ("network", "n", "seconds", "reason"),
    [
        (of_module(nn.Sequential(nn.Flatten(), nn.Linear(32 * 32 * 3, 4))), 30, LONG, "no channels to look at"),
        (of_module(nn.Conv2d(3, 4, 3)), 1, LONG, "too few training images"),
        (of_module(nn.Conv2d(3, 4, 3)), 0, LONG, "too few training images"),
        (of_module(nn.Sequential(nn.Conv2d(3, 4, 3))), 30, 0.0, "too small to look"),
    ],
)
def test_what_cannot_be_drawn_has_its_reason_and_the_rest_is_there(network, n, seconds, reason):
    found = looked_at(network, noise(n), seconds)
    assert reason in " ".join(found.numbers["reasons"])
    assert found.numbers["stages"] == []
    assert ("learned/filters" in found.pictures) == (found.numbers["filters"] is not None)


def test_the_report_has_a_gallery_for_the_filters_and_for_each_stage():
    assert learned_blocks({}) == []
    found = looked_at(stack(), noise(30))
    text, *galleries = learned_blocks(found.numbers)
    assert isinstance(text, Text)
    assert "30 training images" in text.paragraphs[0]
    assert all(isinstance(gallery, Gallery) for gallery in galleries)
    assert {picture.key for gallery in galleries for picture in gallery.pictures} == set(found.pictures)
    assert all(gallery.note.count(". ") == 0 for gallery in galleries)  # one sentence


def test_a_report_without_pictures_says_why():
    blocks = learned_blocks(looked_at(of_module(nn.Sequential(nn.Conv2d(3, 4, 3))), noise(30), 0.0).numbers)
    assert blocks[0].paragraphs == ["The time allowance was too small to look for what its channels answer to."]
