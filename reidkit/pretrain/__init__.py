"""Self-supervised pre-training (DINO) and the choice of images for it (CFS)."""

from reidkit.pretrain.distillation import Distillation, Projections, Rates, StudentAndTeacher
from reidkit.pretrain.head import DinoHead, clip_gradients, freeze_last
from reidkit.pretrain.lists import apply_list, data_folder, read_list, relative_names, write_list
from reidkit.pretrain.selection import Selection, rank_images, select_images
from reidkit.pretrain.selection_plots import describe_selection, write_selection_plots
from reidkit.pretrain.training import pretrain_stage, train_pretrain

__all__ = [
    "DinoHead",
    "Distillation",
    "Projections",
    "Rates",
    "Selection",
    "StudentAndTeacher",
    "apply_list",
    "clip_gradients",
    "data_folder",
    "describe_selection",
    "freeze_last",
    "pretrain_stage",
    "rank_images",
    "read_list",
    "relative_names",
    "select_images",
    "train_pretrain",
    "write_list",
    "write_selection_plots",
]
