"""The alternation: features -> labels -> memory -> training -> evaluation, epoch after epoch."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, NoReturn

import torch
from lightning_fabric import Fabric
from torch import nn

from reidkit.backbones import EmbeddingModel, synchronise_norms
from reidkit.datasets import draw_clusters
from reidkit.distributed import ProcessGroup
from reidkit.errors import ReidkitError, RunError, TrainingError
from reidkit.loop.device import compile_backbones, finish_together, place
from reidkit.loop.epoch import EpochResult
from reidkit.loop.evaluation import evaluate_model
from reidkit.loop.optimisation import check_moments, create_optimizer
from reidkit.loop.progress import Progress
from reidkit.loop.rounds import (
    Benchmark,
    Machinery,
    Round,
    begin_round,
    continue_round,
    enough_memory,
    extraction_need,
    timed,
    train_round,
)
from reidkit.loop.stages import Stage
from reidkit.runs import Interruption, Loggers, Record, RunConfig, RunFolder, save_rankings

__all__ = ["alternate"]


def alternate(
    fabric: Fabric,
    model: EmbeddingModel,
    stages: Sequence[Stage],
    benchmark: Benchmark,
    run: RunFolder,
    config: RunConfig,
    progress: Progress,
    *,
    resume: bool = False,
) -> list[Record]:
    """Run the loop to its last epoch.

    All randomness of an epoch derives from (seed, epoch), and what is drawn inside an epoch is saved with it, so a run
    that is resumed, after any epoch or inside one, equals one that was never interrupted. SIGTERM and Ctrl-C are heard
    between training steps: the step is saved, then the run stops.

    Args:
        fabric: Device and precision.
        model: What is trained.
        stages: Images, labels and criteria of the mode, in the order of their epochs.
        benchmark: What is evaluated on.
        run: Where everything is written.
        config: All settings.
        progress: Told of everything that happens.
        resume: Go on from the run's last checkpoint, if it has one.

    Returns:
        One record per epoch, the evaluation before training being epoch 0: the lines of metrics.jsonl.

    Raises:
        TrainingError: Loss or gradient were not finite too often.
        RunError: The run folder cannot be read or written.
        Interrupted: The run was asked to stop; its work is saved.
    """
    leads = fabric.is_global_zero
    with (
        closing(run),
        Interruption() as interruption,
        Loggers(run.path, config, is_main=leads, resume=resume) as followers,
    ):
        alternation = _Alternation(fabric, model, stages, benchmark, run, config, progress, interruption, followers)
        return alternation.go(resume=resume)


class _Alternation:
    """A run at work."""

    def __init__(
        self,
        fabric: Fabric,
        model: EmbeddingModel,
        stages: Sequence[Stage],
        benchmark: Benchmark,
        run: RunFolder,
        config: RunConfig,
        progress: Progress,
        interruption: Interruption,
        followers: Loggers,
    ) -> None:
        self._stages, self._run, self._config, self._interruption = stages, run, config, interruption
        self._followers = followers
        self._history: list[Record] = []
        self._saved_at = time.monotonic()
        heads = nn.ModuleList(stage.head for stage in stages if stage.head is not None)
        for module in (model, heads):
            place(fabric, module)
            if config.training.compile:
                compile_backbones(module)
        nothing: Any = None  # until the stage is known
        self._machinery = Machinery(
            fabric, ProcessGroup.of_fabric(fabric), model, nothing, heads, nothing, benchmark, config, progress
        )

    def go(self, *, resume: bool) -> list[Record]:
        """Every epoch that is left."""
        config, progress = self._config, self._machinery.progress
        checkpoint = self._run.load_checkpoint() if resume else None
        with self._taking_up():
            self._history = [] if checkpoint is None else checkpoint["history"]
        partial = None if checkpoint is None else checkpoint.get("partial")
        self._set_up(max(1, partial["epoch"] if partial else len(self._history) - 1), prepare=checkpoint is not None)
        if checkpoint is not None:
            self._restore(checkpoint)
        if self._machinery.team.is_main:
            self._run.restore_history(self._history)
            self._followers.log(self._history)
        progress.start_run(len(self._history), config.training.epochs)
        for epoch in range(len(self._history), config.training.epochs + 1):
            if epoch == 0:
                self._history.append(self._first_evaluation())
            else:
                self._history.append(self._epoch(epoch, partial))
            partial = None
            self._finish(epoch)
            progress.end_epoch(self._history[-1])
            if epoch < config.training.epochs:
                self._heed(f"epoch {epoch} is saved")
        finish_together()
        return self._history

    def _set_up(self, epoch: int, *, prepare: bool) -> None:
        """Model, network and optimiser as the stage of an epoch has them; the weights are those they were made with."""
        machinery, stage = self._machinery, self._stages[self._stage_of(epoch)]
        if prepare and stage.prepare is not None and epoch > self._before(epoch):
            stage.prepare(machinery.model)  # gives it the parts whose state is about to be loaded
        if machinery.team.size > 1:
            synchronise_norms(machinery.model)
            synchronise_norms(machinery.heads)
        optimizer = create_optimizer(nn.ModuleList([machinery.model, machinery.heads]), stage.learning.optimizer)
        network, ready = machinery.fabric.setup(stage.network or machinery.model, optimizer)
        machinery.team.sum_gradients(network)
        self._machinery = machinery._replace(network=network, optimizer=ready)

    def _first_evaluation(self) -> Record:
        seconds: dict[str, float] = {}
        self._machinery.model.retrieval = self._stages[0].retrieval
        with timed(seconds, "evaluate"):
            scores = self._evaluate()
        return {"epoch": 0, **scores, "seconds": seconds}

    def _epoch(self, epoch: int, partial: dict[str, Any] | None) -> Record:
        """One epoch's record; its beginning is taken from where it was interrupted, if it was."""
        stage, before, config = self._stages[self._stage_of(epoch)], self._before(epoch), self._config
        if partial is not None:
            with self._taking_up():
                current, behind = continue_round(self._machinery, stage, partial)
        else:
            if epoch == before + 1 and before and stage.prepare is not None:
                stage.prepare(self._machinery.model)
                self._set_up(epoch, prepare=False)
            current = begin_round(self._machinery, self._run, stage, epoch, before, self._history[-1])
            behind = EpochResult()
            self._heed(f"epoch {epoch - 1} is saved")
        self._saved_at = time.monotonic()
        result = train_round(self._machinery, self._run, stage, current, behind, self._keeper(current, stage, behind))
        record = current.record
        seconds = record.pop("seconds")
        scores: dict[str, Any] = {}
        closing_stage = self._closes(epoch)
        evaluated = epoch % config.evaluation.every == 0 or closing_stage
        if evaluated:
            with timed(seconds, "evaluate"):
                scores = dict(self._evaluate(last=epoch == config.training.epochs))
        if closing_stage and self._machinery.benchmark.others:
            scores["others"] = self._evaluate_others()
        record |= {"loss": result.mean_loss, "skipped": result.skipped, "images": result.images}
        if stage.steering is not None:
            record["learning_rate"] = self._machinery.optimizer.param_groups[0]["lr"]
        if stage.network is None and self._machinery.team.is_main:
            shown = current.labels.found or current.labels
            paths = stage.train.split.paths[stage.source_images :]
            self._run.save_labels(epoch, shown.labels, paths)
            if evaluated and shown.kind == "clusters":
                sheet = draw_clusters(shown.labels, stage.train.pixels, first=stage.source_images)
                self._run.append_picture(epoch, "clusters", sheet)
        return {**record, **stage.figures(), **scores, "seconds": seconds}

    def _keeper(self, current: Round, stage: Stage, behind: EpochResult) -> Callable[[EpochResult], None]:
        """What is done after every step: the work is saved now and then, and when the run is asked to stop.

        Not after a step that was skipped: the weights may be what is wrong, and what is saved must be good.
        """
        minutes, steps, team = self._config.training.save_minutes, stage.learning.iterations, self._machinery.team
        taken = behind.steps

        def after_step(result: EpochResult) -> None:
            nonlocal taken
            finite, taken = result.steps > taken, result.steps
            asked = team.any_rank(self._interruption.requested)
            overdue = team.any_rank(time.monotonic() - self._saved_at > 60 * minutes)
            if finite and result.done < steps and (asked or overdue):
                self._check_weights()
                self._save(partial=current.state(result, team, self._machinery.fabric.device))
                self._saved_at = time.monotonic()
                if asked:
                    self._stop(f"epoch {current.epoch} is saved up to step {result.done} of {steps}")

        return after_step

    def _heed(self, saved: str) -> None:
        """Stop here if that was asked for: nothing is lost but what has just begun."""
        if self._machinery.team.any_rank(self._interruption.requested):
            self._stop(saved)

    def _stop(self, saved: str) -> NoReturn:
        """Stop all processes, which have agreed on it, once it is saved: torchrun ends the others with the first."""
        self._machinery.team.barrier()
        finish_together()
        self._interruption.stop(saved)

    def _evaluate(self, *, last: bool = False) -> dict[str, float]:
        """Scores, or none where there is no query or gallery; the last epoch's rankings are kept for the report."""
        fabric, team, model, *_, benchmark, config, progress = self._machinery
        if benchmark.ranked is None:
            return {}
        with enough_memory(*extraction_need(config)):
            scores, features = evaluate_model(fabric, model, *benchmark.ranked, config, progress)
        if last and team.is_main:
            query, gallery = (images.split for images in benchmark.ranked)
            if query.draws is None:  # else there is not one gallery
                save_rankings(self._run, features[0], features[1], query, gallery)
        return scores

    def _evaluate_others(self) -> dict[str, dict[str, float]]:
        fabric, _, model, *_, benchmark, config, progress = self._machinery
        with enough_memory(*extraction_need(config)):
            return {
                name: evaluate_model(fabric, model, query, gallery, config, progress)[0]
                for name, (query, gallery) in benchmark.others.items()
            }

    def _finish(self, epoch: int) -> None:
        """Write source.pt before a stage begins anew, best.pt after the best evaluation, last.pt, and the figures.

        With last.pt the epoch is done: after a kill before it the others are written again, after it they are there.
        """
        self._check_weights()
        if self._machinery.team.is_main:
            if 0 < epoch < self._config.training.epochs and self._closes(epoch):
                self._run.save_checkpoint("source", self._weights())
            scores = [record["mAP"] for record in self._history if "mAP" in record]
            # What a pre-training is worth shows in what follows it, not in the frozen feature: its last weights count.
            following = self._stages[self._stage_of(max(1, epoch))].network is not None
            if not following and "mAP" in self._history[-1] and self._history[-1]["mAP"] == max(scores):
                self._run.save_checkpoint("best", self._weights())
            self._save()
            self._run.append(self._history[-1])
            self._followers.log(self._history)
        self._machinery.team.barrier()

    def _save(self, partial: dict[str, Any] | None = None) -> None:
        if not self._machinery.team.is_main:
            return
        machinery = self._machinery
        learning = {
            "heads": machinery.heads.state_dict(),
            "optimizer": machinery.optimizer.state_dict(),
            "scaler": machinery.fabric.strategy.precision.state_dict(),
        }
        inside = {} if partial is None else {"partial": partial}
        self._run.save_checkpoint("last", {**self._weights(), **learning, **inside})

    def _check_weights(self) -> None:
        """Let no checkpoint with weights that are not finite take the place of a good one."""
        for module in (self._machinery.model, self._machinery.heads):
            for name, tensor in module.state_dict().items():
                if not torch.isfinite(tensor).all():
                    raise TrainingError(
                        f"{name} is not finite any more; the last checkpoint is from before that. Start again from it "
                        "(--pretrained) with a lower learning rate (--set optimizer.learning_rate=...) or with "
                        "--precision 32"
                    )

    def _weights(self) -> dict[str, Any]:
        model = self._machinery.model
        return {
            "model": model.state_dict(),
            "retrieval": model.retrieval,
            "config": self._config.model_dump_json(),
            "history": self._history,
        }

    def _restore(self, checkpoint: dict[str, Any]) -> None:
        with self._taking_up():
            self._machinery.model.load_state_dict(checkpoint["model"])
            self._machinery.heads.load_state_dict(checkpoint["heads"])
            self._machinery.optimizer.load_state_dict(checkpoint["optimizer"])
            check_moments(self._machinery.optimizer)
            if scaler := checkpoint.get("scaler"):  # of gradients in 16 bits
                self._machinery.fabric.strategy.precision.load_state_dict(scaler)

    @contextmanager
    def _taking_up(self) -> Iterator[None]:
        """Refuse a checkpoint that is whole, but whose parts are not those of this run."""
        try:
            yield
        except (ReidkitError, torch.OutOfMemoryError):
            raise
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise RunError(
                f"the checkpoint of {self._run.path} does not go with its settings ({reason}); bring back a copy of "
                "it, or start a new run without --resume"
            ) from error

    def _stage_of(self, epoch: int) -> int:
        """Index of the stage that an epoch, counted from 1, belongs to; the last one goes on for ever."""
        stages = self._stages
        return next((index for index, stage in enumerate(stages) if epoch <= stage.last_epoch), len(stages) - 1)

    def _before(self, epoch: int) -> int:
        """The last epoch of the stage before that of an epoch, or 0."""
        index = self._stage_of(epoch)
        return self._stages[index - 1].last_epoch if index else 0

    def _closes(self, epoch: int) -> bool:
        """Whether another stage begins anew after an epoch, or the run ends."""
        index = self._stage_of(epoch)
        for stage, following in itertools.pairwise(self._stages[index:]):
            if following.prepare is not None:
                return epoch == stage.last_epoch
        return epoch == self._config.training.epochs
