import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet

from reidkit.backbones import EmbeddingModel, create_backbone, to_supervised_layout
from reidkit.datasets import DecodedImages
from reidkit.distributed import ProcessGroup
from reidkit.errors import CheckpointError, ConfigError, DataError, RunError
from reidkit.loop import TrainedModel, create_fabric, load_model
from reidkit.pretrain import selection
from reidkit.pretrain.lists import read_list
from reidkit.pretrain.selection import Direction, Selection, rank_images, select_images
from tests.backbones.golden_weights import fill

SIZE = (32, 16)
COUNT = 23
BROKEN = "b/07.png"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of many kinds, one of them unreadable."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for name in names_of():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        small = random.integers(0, 256, (random.integers(1, 9), random.integers(1, 9), 3), dtype=np.uint8)
        Image.fromarray(small).resize((20, 50)).save(path)
    (folder / BROKEN).write_bytes(b"broken")
    return folder


def names_of() -> list[str]:
    return sorted(f"{'ab'[number % 2]}/{number:02d}.png" for number in range(COUNT))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedModel, TrainedModel]:
    """A DINO teacher, and the same after training with another mean of the pixels."""
    folder = tmp_path_factory.mktemp("models")
    model = tiny_model()
    teacher = {f"module.backbone.{name}": value for name, value in model.backbone.state_dict().items()}
    torch.save({"teacher": teacher}, folder / "dino.pth")
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.backbone.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=random))
    torch.save(to_supervised_layout(model), folder / "fine.pth")
    pretrained, finetuned = load_model(folder / "dino.pth"), load_model(folder / "fine.pth")
    means = finetuned.config.data.model_copy(update={"mean": (0.2, 0.3, 0.4), "std": (0.1, 0.2, 0.3)})
    batches = finetuned.config.evaluation.model_copy(update={"batch_size": 4})
    return pretrained, finetuned._replace(
        config=finetuned.config.model_copy(update={"data": means, "evaluation": batches})
    )


def tiny_model(size: tuple[int, int] = SIZE, width: int = 64) -> EmbeddingModel:
    heads = width // 64
    model = EmbeddingModel(create_backbone("vit_tiny_ics", image_size=size, embed_dim=width, depth=1, num_heads=heads))
    fill(model)
    return model


@pytest.fixture
def fabric() -> Fabric:
    return create_fabric("cpu", "32")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every image that is read, in order."""
    done: list[str] = []
    read = selection._read

    def noting(root: Path, names: Sequence[str], size: tuple[int, int]) -> DecodedImages:
        done.extend(names)
        return read(root, names, size)

    monkeypatch.setattr(selection, "_read", noting)
    return done


def slow_scores(models: Sequence[TrainedModel], data: Path) -> NDArray[np.float64]:
    """One image after the other, by the formula."""
    scores = []
    for name in names_of():
        if name == BROKEN:
            scores.append(np.nan)
            continue
        with Image.open(data / name) as image:
            pixels = np.asarray(image.convert("RGB").resize((SIZE[1], SIZE[0]), Image.Resampling.BICUBIC)) / 255
        features = []
        for trained in models:
            shown = (pixels - trained.config.data.mean) / np.array(trained.config.data.std)
            trained.model.eval()
            with torch.inference_mode():
                feature = trained.model.backbone(torch.from_numpy(shown.transpose(2, 0, 1)[None].copy()).float())
            features.append(feature[0].double().numpy())
        one, other = features
        scores.append(one @ other / np.sqrt((one @ one) * (other @ other)))
    return np.array(scores)


def select(fabric: Fabric, models: Sequence[TrainedModel], data: Path, folder: Path, **options: Any) -> Selection:
    pretrained, finetuned = models
    files = options.pop("listing", folder / "list.txt"), folder / "list.parquet"
    return select_images(fabric, pretrained, finetuned, data, names_of(), *files, **{"chunk": 5, **options})


@pytest.mark.parametrize("chunk", [1, 5, 100])
def test_scores_are_the_cosines_of_the_features_before_the_neck(
    fabric: Fabric, models: tuple[TrainedModel, TrainedModel], data: Path, tmp_path: Path, reads: list[str], chunk: int
) -> None:
    for trained in models:
        trained.model.train()
    found = select(fabric, models, data, tmp_path, chunk=chunk)
    expected = slow_scores(models, data)
    np.testing.assert_allclose(found.scores, expected, atol=2e-5)
    assert np.nanstd(expected) > 1e-3
    assert reads == names_of()
    best = sorted((name for name in names_of() if name != BROKEN), key=lambda name: -expected[names_of().index(name)])
    assert read_list(tmp_path / "list.txt") == found.kept_names == best[:11]
    table = parquet.read_table(tmp_path / "list.parquet").to_pydict()
    assert table["name"] == names_of()
    assert sorted(zip(table["rank"], table["name"], strict=True)) == list(enumerate([*best, BROKEN], start=1))
    assert [name for name, kept in zip(table["name"], table["kept"], strict=True) if kept] == sorted(best[:11])
    assert found.unreadable == [BROKEN]
    assert found.cut == pytest.approx(np.sort(expected)[11], abs=2e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["list.parquet", "list.txt"]


def test_low_keeps_the_other_end(
    fabric: Fabric, models: tuple[TrainedModel, TrainedModel], data: Path, tmp_path: Path
) -> None:
    high = select(fabric, models, data, tmp_path, keep=COUNT - 1)
    select(fabric, models, data, tmp_path, keep=3, direction="low", listing=tmp_path / "low.pkl")
    assert read_list(tmp_path / "low.pkl") == high.kept_names[::-1][:3]


def test_a_stopped_selection_goes_on_without_doing_work_twice(
    fabric: Fabric,
    models: tuple[TrainedModel, TrainedModel],
    data: Path,
    tmp_path: Path,
    reads: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    score, calls = selection._cosines, []

    def stopping(*arguments: Any) -> NDArray[np.float32]:
        calls.append(len(arguments[-1]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return score(*arguments)

    monkeypatch.setattr(selection, "_cosines", stopping)
    with pytest.raises(KeyboardInterrupt):
        select(fabric, models, data, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["list.txt.work"]
    assert len(list((tmp_path / "list.txt.work").glob("0*.npy"))) == 2
    reads.clear()
    resumed = select(fabric, models, data, tmp_path)
    assert reads == names_of()[sum(calls[:2]) :]
    assert calls[2:4] == [calls[2]] * 2
    assert sum(calls) - calls[2] == COUNT
    (tmp_path / "other").mkdir()
    whole = select(fabric, models, data, tmp_path / "other")
    np.testing.assert_array_equal(resumed.scores, whole.scores)
    assert (tmp_path / "list.txt").read_bytes() == (tmp_path / "other" / "list.txt").read_bytes()


def test_another_share_takes_the_scores_of_the_table(
    fabric: Fabric, models: tuple[TrainedModel, TrainedModel], data: Path, tmp_path: Path, reads: list[str]
) -> None:
    first = select(fabric, models, data, tmp_path)
    reads.clear()
    second = select(fabric, models, data, tmp_path, keep=0.25)
    assert second.kept_names == first.kept_names[:6]
    assert 1 <= len(reads) <= 5  # the chunk with the unreadable image: it may have been repaired
    assert BROKEN in reads
    np.testing.assert_array_equal(second.scores, first.scores)


def test_scores_of_other_inputs_are_never_mixed(
    fabric: Fabric, models: tuple[TrainedModel, TrainedModel], data: Path, tmp_path: Path, reads: list[str]
) -> None:
    select(fabric, models, data, tmp_path)
    reads.clear()
    work = tmp_path / "list.txt.work"
    work.mkdir()
    metadata = parquet.read_schema(tmp_path / "list.parquet").metadata
    (work / "key.json").write_bytes(metadata[b"reidkit.select"])
    pretrained, finetuned = models
    with pytest.raises(RunError, match=r"another pre-trained model and another fine-tuned model; .*remove the folder"):
        select(fabric, (finetuned, pretrained), data, tmp_path)
    with pytest.raises(RunError, match="another images per chunk"):
        select(fabric, models, data, tmp_path, chunk=6)
    (work / "key.json").write_text(json.dumps({}))
    with pytest.raises(RunError, match="another data folder and another list of images"):
        select(fabric, models, data, tmp_path)
    (work / "key.json").unlink()
    assert reads == []
    select(fabric, (finetuned, pretrained), data, tmp_path)
    assert reads == names_of()


def test_every_process_takes_its_chunks_and_all_have_all_scores(
    fabric: Fabric,
    models: tuple[TrainedModel, TrainedModel],
    data: Path,
    tmp_path: Path,
    reads: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two processes, one after the other: each waits where the other has already been."""
    bounds = selection._bounds(COUNT, 5)
    processes = [ProcessGroup(None, rank, 2) for rank in (0, 1)]  # without a group nobody waits
    monkeypatch.setattr(ProcessGroup, "of_fabric", lambda fabric: processes[0])
    with pytest.raises(DataError, match=r"000001\.npy is damaged \(.*No such file"):  # the other's chunk is missing
        select(fabric, models, data, tmp_path)
    assert reads == [name for start, stop in bounds[0::2] for name in names_of()[start:stop]]
    reads.clear()
    monkeypatch.setattr(ProcessGroup, "of_fabric", lambda fabric: processes[1])
    found = select(fabric, models, data, tmp_path)
    assert reads == [name for start, stop in bounds[1::2] for name in names_of()[start:stop]]
    np.testing.assert_allclose(found.scores, slow_scores(models, data), atol=2e-5)
    assert not (tmp_path / "list.txt").exists()  # that is for the first process


def test_models_that_do_not_go_together_are_refused(
    fabric: Fabric, models: tuple[TrainedModel, TrainedModel], data: Path, tmp_path: Path
) -> None:
    for other, words in (
        (tiny_model((64, 32)), r"images of HxW = 32x16, the fine-tuned .*fine\.pth 64x32"),
        (tiny_model(width=128), r"features of D = 64, the fine-tuned .*fine\.pth 128"),
    ):
        with pytest.raises(CheckpointError, match=words):
            select(fabric, (models[0], models[1]._replace(model=other)), data, tmp_path)
    assert not list(tmp_path.iterdir())


def test_features_that_are_not_finite_stop_the_selection(
    fabric: Fabric, models: tuple[TrainedModel, TrainedModel], data: Path, tmp_path: Path
) -> None:
    broken = tiny_model()
    with torch.no_grad():
        next(broken.backbone.parameters()).fill_(torch.nan)
    with pytest.raises(CheckpointError, match=r"of 4 images are not finite, the first 'a/00\.png'; .*--precision 32"):
        select(fabric, (models[0], models[1]._replace(model=broken)), data, tmp_path)


def test_a_folder_without_a_readable_image(
    fabric: Fabric, models: tuple[TrainedModel, TrainedModel], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"none of 23 images is readable, the first is 'a/00\.png'"):
        select(fabric, models, tmp_path / "absent", tmp_path)


def test_a_work_folder_that_cannot_be_made(
    fabric: Fabric, models: tuple[TrainedModel, TrainedModel], data: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"absent/list\.txt\.work could not be written .*Its folder is gone"):
        select(fabric, models, data, tmp_path, listing=tmp_path / "absent" / "list.txt")


@pytest.mark.parametrize(("direction", "expected"), [("high", "adcebf"), ("low", "bceadf")])
def test_ties_are_broken_by_name_and_the_unreadable_come_last(direction: Direction, expected: str) -> None:
    names = list("fedcba")
    scores = np.array([np.nan, 0.5, 0.75, 0.5, -1.0, 0.75], dtype=np.float32)
    found = rank_images(names, scores, keep=1.0, direction=direction)
    assert "".join(names[number] for number in found.order) == expected
    assert found.kept_names == list(expected[:5])


@pytest.mark.parametrize(
    ("keep", "images", "kept"),
    [
        (0.5, 4_180_243, 2_090_122),
        (0.6, 4_180_243, 2_508_146),
        (1.0, 4_180_243, 4_180_243),
        (0.07, 100, 7),
        (1e-7, 100, 1),
        (2, 100, 2),
        (100.0, 100, 100),
    ],
)
def test_how_many_are_kept(keep: float, images: int, kept: int) -> None:
    assert selection._kept_count(keep, images) == kept


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        (0, "keep=0 is neither a share"),
        (-0.5, "keep=-0.5 is neither"),
        (1.5, "keep=1.5 is neither"),
        (float("nan"), "keep=nan is neither"),
        (float("inf"), "keep=inf is neither"),
        (101, "keep=101 of 100 readable images; lower it"),
    ],
)
def test_what_cannot_be_kept(keep: float, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        selection._kept_count(keep, 100)


@pytest.mark.parametrize(("count", "chunk"), [(1, 5), (5, 5), (6, 5), (4097, 4096), (23, 1)])
def test_chunks_cover_all_images_and_are_of_one_size(count: int, chunk: int) -> None:
    bounds = selection._bounds(count, chunk)
    assert [place for start, stop in bounds for place in range(start, stop)] == list(range(count))
    sizes = [stop - start for start, stop in bounds]
    assert max(sizes) <= chunk
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("scores", [np.zeros(3, np.float32), np.zeros(2), np.zeros((2, 2), np.float32)])
def test_damaged_scores_of_a_stopped_selection_are_refused(
    fabric: Fabric,
    models: tuple[TrainedModel, TrainedModel],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scores: NDArray[Any],
) -> None:
    processes = ProcessGroup(None, 0, 2)
    with monkeypatch.context() as patched:
        patched.setattr(ProcessGroup, "of_fabric", lambda fabric: processes)
        with pytest.raises(DataError):
            select(fabric, models, data, tmp_path)
    np.save(tmp_path / "list.txt.work" / "000002.npy", scores)
    with pytest.raises(DataError, match=r"000002\.npy is damaged \(it holds"):
        select(fabric, models, data, tmp_path)
    (tmp_path / "list.txt.work" / "key.json").write_text("[" * 5000)
    with pytest.raises(DataError, match=r"key\.json is damaged"):
        select(fabric, models, data, tmp_path)
