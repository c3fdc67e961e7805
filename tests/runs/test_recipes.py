import tomllib
from pathlib import Path

import pytest

from reidkit.errors import ConfigError
from reidkit.runs import default_recipe, list_recipes, parse_assignment, read_recipe, read_toml, resolve_config
from reidkit.runs.recipes import describe_config


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_is_valid_and_says_what_it_is_for(name: str) -> None:
    config = resolve_config([read_recipe(name)])
    assert config.recipe.name == name
    assert config.recipe.description
    assert config.recipe.source
    assert config.sampler.batch_size % config.sampler.instances == 0


@pytest.mark.parametrize(("name", "eps"), [("usl/market", 0.6), ("usl/msmt17", 0.7)])
def test_the_papers_constants(name: str, eps: float) -> None:
    config = resolve_config([read_recipe(name)])
    assert (config.clustering.eps, config.clustering.min_samples) == (eps, 4)
    assert (config.clustering.k1, config.clustering.k2) == (30, 6)
    assert (config.sampler.batch_size, config.sampler.instances) == (256, 8)
    assert (config.memory.temperature, config.memory.momentum, config.memory.update) == (0.05, 0.2, "hard")
    assert (config.optimizer.name, config.optimizer.learning_rate) == ("sgd", 3.5e-4)
    assert (config.optimizer.weight_decay, config.optimizer.momentum) == (5e-4, 0.9)
    assert (config.schedule.step_epochs, config.schedule.factor) == (20, 0.1)
    assert (config.training.epochs, config.training.iterations) == (50, 200)
    assert (config.backbone.name, config.backbone.image_size) == ("vit_small_ics", (256, 128))
    assert config.backbone.drop_path == 0.3
    assert config.data.mean == config.data.std == (0.5, 0.5, 0.5)
    assert (config.augmentation.flip, config.augmentation.pad, config.augmentation.erasing) == (0.5, 10, 0.5)
    assert config.warmup.epochs == 0


@pytest.mark.parametrize("name", list_recipes())
def test_a_shown_recipe_is_a_configuration_file(name: str) -> None:
    config = resolve_config([read_recipe(name)])
    shown = describe_config(config)
    assert resolve_config([tomllib.loads(shown)]) == config
    assert "# Largest Jaccard distance of neighbours" in shown


def test_a_shown_value_says_where_it_is_from() -> None:
    layers = [read_recipe("usl/msmt17")]
    config = resolve_config(layers)
    lines = describe_config(config).splitlines()
    assert f"#   recipe   usl/msmt17; source: {config.recipe.source}" in lines
    assert "eps = 0.7  # recipe" in lines
    assert "image_size = [256, 128]  # recipe" in lines
    assert "erasing_area = [0.02, 0.4]  # default" in lines
    assert 'precision = "auto"  # default' in lines
    assert "# embed_dim is not set (None)" in lines
    sources = [line.rpartition("# ")[2] for line in lines if " = " in line and not line.startswith("#")]
    given = sum(len(value) if isinstance(value, dict) else 1 for value in layers[0].values())
    assert sources.count("recipe") == given
    assert set(sources) == {"recipe", "default"}


def test_every_shown_value_has_its_meaning_above_it() -> None:
    lines = describe_config(resolve_config([])).splitlines()
    assert "#   recipe   the recipe; source: none given" in lines
    values = [number for number, line in enumerate(lines) if " = " in line and not line.startswith("#")]
    assert len(values) > 50
    assert all(lines[number - 1].startswith("# ") for number in values)


def test_later_layers_win_and_sections_merge() -> None:
    config = resolve_config([{"clustering": {"eps": 0.5, "k1": 20}}, {"clustering": {"eps": 0.4}}, {"seed": 9}])
    assert (config.clustering.eps, config.clustering.k1, config.seed) == (0.4, 20, 9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clustering": {"epz": 0.5}}, r"unknown setting clustering.epz \(did you mean 'eps'\?\); known here: backend"),
        ({"clusterin": {}}, r"unknown setting clusterin \(did you mean 'clustering'\?\)"),
        ({"memory": {"update": "soft"}}, "memory.update='soft': input should be 'hard' or 'mean'"),
        ({"training": {"epochs": 0}}, "training.epochs=0: input should be greater than or equal to 1"),
        ({"sampler": {"batch_size": 10, "instances": 4}}, "batch_size=10 is not a multiple of sampler.instances=4"),
        ({"clustering": {"eps": 1.5}}, "eps=1.5"),
    ],
)
def test_bad_settings_are_named_with_their_remedy(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_config([settings])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("clustering.eps=0.5", {"clustering": {"eps": 0.5}}),
        ("seed = 3", {"seed": 3}),
        ("data.target=market", {"data": {"target": "market"}}),
        ("backbone.pretrained=", {"backbone": {"pretrained": ""}}),
        ("backbone.image_size=[64, 32]", {"backbone": {"image_size": [64, 32]}}),
    ],
)
def test_assignments(text: str, expected: dict[str, object]) -> None:
    assert parse_assignment(text) == expected


@pytest.mark.parametrize("text", ["eps", "=3", "a..b=1"])
def test_bad_assignments_show_the_form(text: str) -> None:
    with pytest.raises(ConfigError, match=r"section\.name=value"):
        parse_assignment(text)


def test_unknown_recipes_list_the_known() -> None:
    with pytest.raises(ConfigError, match=r"unknown recipe 'usl/markt'; did you mean usl/market\?"):
        read_recipe("usl/markt")


def test_targets_have_their_recipe_and_others_the_one_for_small_sets() -> None:
    assert default_recipe("usl", "msmt17") == "usl/msmt17"
    assert default_recipe("usl", "photos/of/cats") == "usl/small"


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml cannot be read"):
        read_toml(tmp_path / "nothing.toml")
    (tmp_path / "bad.toml").write_text("= 3")
    with pytest.raises(ConfigError, match=r"bad\.toml is not valid TOML"):
        read_toml(tmp_path / "bad.toml")


def test_precision_may_be_a_number() -> None:
    assert resolve_config([parse_assignment("training.precision=32")]).training.precision == "32"
