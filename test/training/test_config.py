"""Presets, unknown keys, types, overrides."""

import dataclasses
import warnings

import pytest
import torch
import yaml
from extending import defined, shown, with_field

from shared_pose_ros.training import augmentation
from shared_pose_ros.training import config as config_module
from shared_pose_ros.training.config import (
    AugmentationConfig,
    EncoderConfig,
    LossConfig,
    RefinerConfig,
    TrainingConfig,
    at_difficulty,
    changed_settings,
    config_from_dict,
    load_preset,
    override,
    preset_folder,
    preset_names,
)
from shared_pose_ros.training.trainer import difficulty


def test_every_shipped_preset_loads():
    assert {"compact", "paper", "robust"} <= set(preset_names()) and preset_names(EncoderConfig) == [
        "encoder_compact",
        "encoder_paper",
    ]
    assert preset_names(RefinerConfig) == ["refiner"]
    for kind in (TrainingConfig, EncoderConfig, RefinerConfig):
        for name in preset_names(kind):
            assert isinstance(load_preset(name, kind), kind)
    presets = {name for kind in (TrainingConfig, EncoderConfig, RefinerConfig) for name in preset_names(kind)}
    parts = {path.stem for path in preset_folder().glob("*.yaml")} - presets
    assert parts == {"paper_images", "robust_images"}


@pytest.mark.parametrize("width", ["compact", "paper"])
def test_the_variants_differ_in_tuning_and_normalisation_alone(width):
    variants = ("last_layer", "frozen", "frozen_raw")
    presets = {name: load_preset(f"{width}_{name}") for name in variants if (width, name) != ("paper", "last_layer")}
    presets["full"] = load_preset("compact" if width == "compact" else "paper_full")
    presets.setdefault("last_layer", load_preset("paper"))
    assert {name: (config.tuning, config.normalize_code) for name, config in presets.items()} == {
        "last_layer": ("last_layer", False),  # the paper's +FT
        "frozen": ("frozen", True),  # its -FT
        "frozen_raw": ("frozen", False),
        "full": ("full", False),
    }
    reference = presets["last_layer"].to_dict()
    for config in presets.values():
        changed = changed_settings(reference, config.to_dict())
        assert set(changed) <= {"tuning", "normalize_code", "loss.auxiliary_weight"}
        assert config.loss.auxiliary_weight == 0 or config.tuning == "full"


def test_the_encoders_paper_preset_is_the_methods():
    config, pose = load_preset("encoder_paper", EncoderConfig), load_preset("paper")
    assert (config.width, config.crop_size) == (pose.width, pose.crop_size) == ("paper", 128)
    assert (config.steps, config.images_per_object, config.bootstrap) == (300_000, 4, 4)
    assert config.learning_rate == config.final_learning_rate == 1e-4 and config.precision == "fp32"
    assert config.augmentation == pose.augmentation
    assert config.synthesis.crop_shift * config.synthesis.crop_pad == pytest.approx(0.2, abs=1e-4)
    assert config.synthesis.distance == (0.7, 0.7)
    same = dataclasses.replace(config.synthesis, distance=pose.synthesis.distance, crop_shift=pose.synthesis.crop_shift)
    assert same == pose.synthesis
    compact = load_preset("encoder_compact", EncoderConfig)
    assert (compact.width, compact.crop_size) == ("compact", load_preset("compact").crop_size)


def test_the_paper_preset_is_the_methods():
    config = load_preset("paper")
    assert (config.width, config.crop_size, config.hypotheses, config.batch_size) == ("paper", 128, 10, 64)
    assert config.samples == 20_000_000 and config.steps == 312_500
    assert config.tuning == "last_layer" and not config.normalize_code
    assert config.learning_rate == config.final_learning_rate == 1e-3
    assert at_difficulty(config.synthesis, difficulty(config, 0.0)) == config.synthesis
    loss = config.loss
    assert (loss.size, loss.d_max, loss.gamma, loss.diversity_weight) == (64, 30.0, 0.01, 1.0)
    # The paper's loss alone, from the first sample.
    assert (loss.mixture_weight, loss.auxiliary_weight, loss.depth_start) == (0.0, 0.0, 0.0)
    synthesis = config.synthesis
    assert synthesis.crop_pad == 1.2 and synthesis.distance == (1.0, 1.0)
    assert (synthesis.crop_shift, synthesis.crop_scale, synthesis.neighbours, synthesis.occluders) == (0, 0, 0, 0)
    assert synthesis.lights == 1 and synthesis.from_above == 0.0
    assert synthesis.ambient == (0.1, 0.1) and synthesis.specular == synthesis.metallic == (0.0, 0.0)
    assert synthesis.lamp == synthesis.brightness == (1.0, 1.0) and synthesis.shadows == 0.0
    assert (config.optimizer, config.precision) == ("adam", "fp32")
    augmentation = config.augmentation
    assert (augmentation.blur, augmentation.blur_sigma) == (0.5, 1.2)
    assert augmentation.add == augmentation.multiply == augmentation.contrast == 0.5
    assert augmentation.add_range == pytest.approx(25 / 255, abs=0.003)
    assert augmentation.multiply_range == (0.6, 1.4) and augmentation.contrast_range == (0.5, 2.2)
    assert augmentation.zoom == augmentation.coarse_pair == augmentation.multiply_again == 0.5
    assert (augmentation.invert, augmentation.invert_channel, augmentation.channelwise) == (0.3, 0.2, (0.3, 0.5, 0.3))
    assert augmentation.cutout == augmentation.noise == 0.0


def test_the_robust_preset_has_what_a_cell_has():
    config, default = load_preset("robust"), TrainingConfig()
    assert (config.width, config.crop_size, config.hypotheses, config.tuning) == ("paper", 128, 10, "full")
    synthesis, augmentation = config.synthesis, config.augmentation
    for name in ("crop_shift", "crop_scale", "neighbours", "occluders", "shadows", "tint", "lights"):
        assert getattr(synthesis, name) > getattr(default.synthesis, name), name
    for name in ("specular", "metallic", "crevice", "sky"):
        assert getattr(synthesis, name)[1] > getattr(default.synthesis, name)[1], name
    assert 0 < augmentation.jpeg <= 1 and min(augmentation.blur, augmentation.noise, augmentation.add) > 0
    # The warm-up losses are on and end in the paper's loss.
    loss = config.loss
    assert loss.mixture_weight > 0 and loss.warm_up_end == 1.0 and 0 < loss.depth_start < 1
    assert (loss.d_max, loss.gamma, loss.diversity_weight) == (30.0, 0.01, 1.0)


def test_later_bases_win():
    config, compact, robust = load_preset("compact_robust"), load_preset("compact"), load_preset("robust")
    assert (config.synthesis, config.augmentation) == (robust.synthesis, robust.augmentation)
    others = {"synthesis": compact.synthesis, "augmentation": compact.augmentation}
    assert dataclasses.replace(config, **others) == compact


def test_only_robust_compresses():
    assert [name for name in ("compact", "compact_fine", "paper", "robust") if load_preset(name).augmentation.jpeg] == [
        "robust"
    ]


def test_a_preset_extends_another(tmp_path):
    fine, compact = load_preset("compact_fine"), load_preset("compact")
    assert fine.augmentation == compact.augmentation and fine.crop_size > compact.crop_size
    assert fine.loss.warm_up_end == 1.0 and fine.loss.mixture_weight == compact.loss.mixture_weight
    path = tmp_path / "loop.yaml"
    path.write_text(f"extends: {path}")
    with pytest.raises(ValueError, match="extend each other in a circle"):
        load_preset(str(path))
    path.write_text("extends: nowhere")
    with pytest.raises(ValueError, match="no preset 'nowhere'"):
        load_preset(str(path))


def test_changed_settings_are_named_with_both_values():
    config = TrainingConfig()
    assert changed_settings(config.to_dict(), config.to_dict()) == {}
    other = override(override(config, "loss.d_max", 20), "seed", 3)
    assert changed_settings(config.to_dict(), other.to_dict()) == {"loss.d_max": (30.0, 20.0), "seed": (0, 3)}


def test_the_compact_preset_ends_in_the_papers_loss():
    config = load_preset("compact")
    assert config.width == "compact" and config.tuning == "full"
    assert (config.loss.d_max, config.loss.gamma, config.loss.diversity_weight) == (30.0, 0.01, 1.0)


def test_a_file_is_a_preset(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("width: compact\nloss: {size: 48, d_max: 20}\nsynthesis: {distance: [1, 2]}\n")
    config = load_preset(str(path))
    assert config.loss.size == 48 and config.loss.d_max == 20.0 and config.synthesis.distance == (1.0, 2.0)
    assert config.loss.gamma == TrainingConfig().loss.gamma
    (tmp_path / "empty.yaml").write_text("")
    assert load_preset(str(tmp_path / "empty.yaml")) == TrainingConfig()


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(ValueError, match="no preset 'huge'.*compact.*paper"):
        load_preset("huge")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"widht": "compact"}, "unknown training setting widht"),
        ({"loss": {"dmax": 3}}, r"unknown training setting loss\.dmax"),
        ({"samples": "many"}, "samples is 'many'; give a int"),
        ({"width": 3}, "width is 3; give a str"),
        ({"normalize_code": "yes"}, "normalize_code is 'yes'; give a bool"),
        ({"synthesis": {"distance": 1.0}}, r"synthesis\.distance is 1\.0; give a list of 2"),
        ({"synthesis": {"distance": [1, 2, 3]}}, "give a list of 2"),
        ({"tuning": "some"}, "tuning 'some' is unknown; choose one of frozen, last_layer, full"),
        ({"samples": 0}, "samples is 0; it must be at least 1"),
        ({"batch_size": -4}, "batch_size is -4"),
        ({"loss": 3}, "training setting loss is 3; it is a group: name one of its"),
    ],
)
def test_wrong_settings_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        config_from_dict(values)


def test_wrong_settings_of_an_encoder_are_named():
    for values, message in (
        ({"hypotheses": 3}, "unknown training setting hypotheses; known: width"),
        ({"synthesis": {"crop_shit": 3}}, r"unknown training setting synthesis\.crop_shit"),
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"bootstrap": 2.5}, "bootstrap is 2.5; give a int"),
        ({"precision": "fp8"}, "precision 'fp8' is unknown; choose one of auto, fp32, bf16"),
    ):
        with pytest.raises(ValueError, match=message):
            config_from_dict(values, EncoderConfig)
    changed = override(EncoderConfig(), "synthesis.tint", 0)
    assert isinstance(changed, EncoderConfig) and changed.synthesis.tint == 0
    assert config_from_dict(changed.to_dict(), EncoderConfig) == changed


def test_values_survive_the_way_to_yaml_and_back():
    config = dataclasses.replace(load_preset("paper"), seed=7)
    assert config_from_dict(config.to_dict()) == config
    assert config_from_dict(yaml.safe_load(yaml.safe_dump(_lists(config.to_dict())))) == config


def _lists(values):
    if isinstance(values, dict):
        return {key: _lists(value) for key, value in values.items()}
    return list(values) if isinstance(values, tuple) else values


def test_difficulty_scales_disturbances_and_leaves_the_rest():
    config = override(TrainingConfig(), "augmentation.jpeg", 0.4)
    synthesis, augmentation = at_difficulty(config.synthesis, 0.5), at_difficulty(config.augmentation, 0.5)
    assert synthesis.occluders == config.synthesis.occluders / 2 and augmentation.blur == config.augmentation.blur / 2
    assert augmentation.jpeg == 0.2 and augmentation.jpeg_quality == config.augmentation.jpeg_quality
    assert synthesis.crevice == (0.0, 0.3) and synthesis.metallic == (0.0, 0.25)
    assert at_difficulty(config.synthesis, 1.0) == config.synthesis
    assert at_difficulty(config.augmentation, 1.0) == config.augmentation
    changed = {**_changed(config.synthesis, 0.0), **_changed(config.augmentation, 0.0)}
    assert set(changed) == {
        *("tint", "neighbours", "occluders", "shadows", "crevice", "metallic", "blur", "noise", "add", "multiply"),
        *("contrast", "cutout", "jpeg"),
    }  # the others that are scaled are off by default
    assert {tuple(new) if isinstance(new, tuple) else new for _, new in changed.values()} == {0.0, (0.0, 0.0)}
    ramped = dataclasses.replace(config, ramp=(0.2, 0.6))
    assert [difficulty(ramped, progress) for progress in (0.0, 0.2, 0.4, 0.6, 1.0)] == pytest.approx([0, 0, 0.5, 1, 1])


def _changed(images, difficulty):
    return changed_settings(dataclasses.asdict(images), dataclasses.asdict(at_difficulty(images, difficulty)))


FIELD, USE = shown("A new training setting")


def test_the_documented_setting_is_scaled_where_it_is_declared():
    images = with_field(FIELD, AugmentationConfig, config_module)(vignette=0.8)
    eased = at_difficulty(images, 0.25)
    assert eased == dataclasses.replace(
        images, **dataclasses.asdict(at_difficulty(AugmentationConfig(), 0.25)), vignette=0.2
    )


def test_the_documented_setting_darkens_corners():
    vignette = defined(USE, augmentation)["_vignette"]
    config = with_field(FIELD, AugmentationConfig, config_module)(vignette=0.5)
    crops = torch.full((200, 3, 9, 9), 0.5)
    made = vignette(crops, config, augmentation.Draw(200, torch.Generator().manual_seed(0)))
    changed = (made != crops).flatten(1).any(dim=1)
    assert changed.float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert (made[:, :, 4, 4] == 0.5).all() and made[:, :, 0, 0].min() >= 0.3 and made[changed][:, :, 0, 0].max() < 0.5


OLDER = {"loss": {"spread_weight": 2.0, "surface_weight": 3.0, "mixture_end": 0.7}}


def test_older_names_are_read_with_a_warning(tmp_path):
    expected = dataclasses.replace(LossConfig(), diversity_weight=2.0, auxiliary_weight=3.0, warm_up_end=0.7)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(OLDER))
    with pytest.warns(FutureWarning, match=r"loss\.spread_weight is now loss\.diversity_weight"):
        assert load_preset(str(path)).loss == expected
    with pytest.warns(FutureWarning, match=r"loss\.mixture_end is now loss\.warm_up_end"):
        assert override(TrainingConfig(), "loss.mixture_end", 0.7).loss.warm_up_end == 0.7
    # What a program wrote is read in silence.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert config_from_dict(OLDER).loss == expected


def test_of_two_files_the_later_wins_whatever_name_it_has(tmp_path):
    (tmp_path / "base.yaml").write_text("loss: {spread_weight: 2}")
    path = tmp_path / "mine.yaml"
    path.write_text(f"extends: {tmp_path / 'base.yaml'}\nloss: {{diversity_weight: 3}}")
    with pytest.warns(FutureWarning, match="spread_weight"):
        assert load_preset(str(path)).loss.diversity_weight == 3.0
    path.write_text("extends: compact\nloss: {mixture_end: 0.5}")
    with pytest.warns(FutureWarning, match="mixture_end"):
        assert load_preset(str(path)).loss.warm_up_end == 0.5


def test_one_setting_can_be_overridden():
    config = load_preset("compact")
    changed = override(override(config, "loss.d_max", 12), "seed", 5)
    assert changed.loss.d_max == 12.0 and changed.seed == 5
    assert dataclasses.replace(changed, seed=config.seed, loss=config.loss) == config
    for key in ("loss.dmax", "los.d_max", "loss", "d_max", "loss.d_max.x", ""):
        with pytest.raises(ValueError, match="unknown training setting"):
            override(config, key, 1)
    with pytest.raises(ValueError, match="tuning"):
        override(config, "tuning", "none")
