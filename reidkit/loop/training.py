"""The training loop of every mode: cluster, learn, repeat."""

from collections.abc import Sequence
from contextlib import closing

from reidkit.loop.device import finish_together
from reidkit.loop.epoch import Epoch, train_epoch
from reidkit.loop.evaluation import Benchmark
from reidkit.loop.saving import RunSaver
from reidkit.loop.stages import Stage, StagePlan
from reidkit.loop.trainer import Trainer
from reidkit.runs import EpochRecord, RunFolder

__all__ = ["train"]


def train(
    trainer: Trainer, stages: Sequence[Stage], benchmark: Benchmark, run: RunFolder, *, resume: bool = False
) -> list[EpochRecord]:
    """Cluster, learn, repeat (TransReID-SSL, section 4.4).

    All randomness of an epoch derives from (seed, epoch) and is saved with a half-finished one: a resumed run equals
    one that was never interrupted. SIGTERM and Ctrl-C save the step at hand, then stop the run.

    Args:
        trainer: Model, devices and settings.
        stages: Images, labels and criteria of the mode, in the order of their epochs.
        benchmark: Query and gallery images to evaluate on.
        run: Folder for checkpoints and metrics; it is released at the end.
        resume: Continue from the run's last checkpoint, if it has one.

    Returns:
        One record per epoch; epoch 0 is the evaluation before training.

    Raises:
        TrainingError: Loss or gradient were not finite too often.
        RunError: The run folder cannot be read or written.
        Interrupted: The run was asked to stop; its work is saved.
    """
    plan = StagePlan(stages, trainer.config.training.epochs)
    with closing(run), RunSaver(trainer, plan, run, benchmark, resume=resume) as saver:
        # The last checkpoint, or a new model and its scores
        history, interrupted = saver.start(resume=resume)
        if not history:
            untrained = Epoch(0, plan.at(1))
            scores = untrained.evaluate(trainer, benchmark, plan)
            history.append(untrained.record(trainer, scores))
            saver.save_epoch(untrained, scores)
        for number in range(len(history), plan.epochs + 1):
            if interrupted is not None:
                # The rest of the epoch in which the run was stopped
                epoch, interrupted = interrupted, None
            else:
                epoch = Epoch(number, plan.enter(number, trainer), trainer.config.seed)
                # Features of all training images, in evaluation mode
                features = epoch.extract(trainer) if epoch.stage.needs_features else None
                # Pseudo-labels, ground truth, or every image a class by itself
                epoch.label(features)
                # Cluster memory, classifier or DINO head
                epoch.create_criterion(features)
                saver.save_clustering(epoch, features)
            # Steps
            with saver.training(epoch) as checkpoint_hook:
                train_epoch(trainer, epoch, checkpoint_hook)
            # Scores
            scores = epoch.evaluate(trainer, benchmark, plan)
            history.append(epoch.record(trainer, scores))
            # Checkpoints, metrics, labels
            saver.save_epoch(epoch, scores)
    finish_together()
    return history
