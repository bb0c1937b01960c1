"""Refusals of settings that no experiment can have, or that do not fit its store or devices."""

from pathlib import Path

from jax.sharding import Mesh

from brats_jax.data.folds import is_all
from brats_jax.data.patches import SAMPLINGS
from brats_jax.data.store.reader import Store
from brats_jax.data.store.several_planes import SeveralPlanes
from brats_jax.errors import BratsError
from brats_jax.experiments.augmentation_settings import augmentation_of
from brats_jax.experiments.config import stages_of
from brats_jax.inference.several_runs import chosen_planes
from brats_jax.losses import get_segmentation_loss
from brats_jax.models.fusion import WEIGHTS
from brats_jax.models.unet import AUXILIARY_STRIDES
from brats_jax.pretexts import PRETEXTS
from brats_jax.runs.folder import STAGES
from brats_jax.runs.settings import Settings
from brats_jax.runs.settings_comparison import IF_ABSENT
from brats_jax.runtime import devices
from brats_jax.tasks.base import DEFAULT_FUSION
from brats_jax.tasks.segmentation import SELECTION_METRICS, VOLUME_DICE
from brats_jax.tasks.segmentation_outputs import OUTPUTS
from brats_jax.training.forward import check_gradient_sum


def check_settings(settings: Settings) -> None:
    """Refuses values that no experiment can have.

    Raises:
      BratsError: names the setting, its value and the valid ones.
    """
    settings.check()
    _check_folds(settings)
    _check_loss(settings)
    _check_stages(settings)
    for stage in STAGES:
        augmentation_of(stage, settings.stage(stage).augmentation)
    _check_modality_dropout(settings)
    _check_fusion(settings)
    _check_encoder_init(settings.encoder_init)
    _check_transfer(settings)
    _check_labels(settings)
    _check_selection(settings)
    _check_optimiser(settings)
    _check_evaluation(settings)
    check_groups(settings)
    if settings.data.other_planes and settings.data.split_by == "slice":
        raise BratsError(
            "config.data.other_planes with config.data.split_by=slice: a slice of another plane "
            "holds a line of every test slice; split by patient, or leave it out"
        )
    if not settings.data.store:
        raise BratsError(
            "no data: give --config.data.store=STORE, a folder that "
            "`python -m brats_jax.prepare --source=DIR --store=STORE` has written"
        )


def _check_folds(settings: Settings) -> None:
    folds, count = settings.folds, settings.data.num_folds
    if is_all(settings.document.get("folds")):
        return
    if not folds or any(not 0 <= fold < count for fold in folds):
        raise BratsError(
            f"config.folds={folds}: valid are 0 to {count - 1} (config.data.num_folds={count}), "
            "for example --config.folds=0,1; or 'all', to train on all patients"
        )
    if len(set(folds)) != len(folds):
        raise BratsError(f"config.folds={folds}: name each fold once")


def _check_loss(settings: Settings) -> None:
    channels = OUTPUTS[settings.segment.outputs].channels
    if len(settings.focal_alpha) not in (0, len(channels)):
        raise BratsError(
            f"config.focal_alpha has {len(settings.focal_alpha)} weights; give one for each of "
            f"{', '.join(channels)} (config.segment.outputs={settings.segment.outputs}), or none"
        )
    if settings.segment.dice_present and settings.loss == "focal":
        raise BratsError(
            "config.segment.dice_present=True has no effect with config.loss=focal, which has no "
            "Dice loss; give --config.loss=dice_ce or dice_focal, or leave it out"
        )
    stride = AUXILIARY_STRIDES[-1]
    if settings.segment.deep_supervision and settings.data.patch_size < stride:
        raise BratsError(
            f"config.segment.deep_supervision with config.data.patch_size="
            f"{settings.data.patch_size}: the coarsest map has a pixel for {stride} x {stride}; "
            f"give patches of at least {stride}"
        )
    get_segmentation_loss(
        settings.loss, alpha=settings.focal_alpha or None, gamma=settings.focal_gamma
    )


def _check_stages(settings: Settings) -> None:
    pretrain = settings.pretrain
    if pretrain.run and not settings.ssl:
        raise BratsError(
            f"config.pretrain.run={pretrain.run} without pretraining (config.ssl=False); "
            "leave out one of them"
        )
    segment = settings.segment
    if segment.sampling != SAMPLINGS[0] and not segment.tumour_probability:
        raise BratsError(
            f"config.segment.sampling={segment.sampling} has no effect with "
            "config.segment.tumour_probability=0; give a probability above 0, or leave it out"
        )
    pretext = PRETEXTS[pretrain.task]
    both = [name for name in pretrain.targets if name in pretrain.inputs]
    if pretext.synthesises and both:
        raise BratsError(
            f"config.pretrain.target={both[0]} is among config.pretrain.inputs; "
            "predict a modality that is not an input"
        )
    if pretrain.task == "masked" and pretrain.mask_block > settings.data.patch_size // 2:
        raise BratsError(
            f"config.pretrain.mask_block={pretrain.mask_block} is more than half of "
            f"config.data.patch_size={settings.data.patch_size}; give smaller blocks"
        )


def _check_modality_dropout(settings: Settings) -> None:
    """Refuses dropout where nothing can be left out (BratsError)."""
    segment = settings.segment
    if segment.modality_dropout and len(segment.inputs) == 1:
        raise BratsError(
            f"config.segment.modality_dropout={segment.modality_dropout} with the only input "
            f"{segment.inputs[0]}, which cannot be left out; give several config.segment.inputs, "
            "or modality_dropout=0"
        )


def _check_fusion(settings: Settings) -> None:
    """Refuses settings that the fusion has no use for (BratsError)."""
    model = settings.model
    if model.fusion_weights != WEIGHTS[0] and model.fusion not in ("encoders", "attention"):
        raise BratsError(
            f"config.model.fusion_weights={model.fusion_weights} has no effect with "
            f"config.model.fusion={model.fusion}, which has one encoder; leave it out"
        )
    if model.fusion != DEFAULT_FUSION and settings.encoder_init != "random":
        raise BratsError(
            f"config.encoder_init={settings.encoder_init} with config.model.fusion="
            f"{model.fusion}: a weight file is for the encoder of fusion={DEFAULT_FUSION}; "
            "leave out one of them"
        )


def _check_encoder_init(encoder_init: str) -> None:
    if encoder_init == "random":
        return
    if not Path(encoder_init).is_file():
        raise BratsError(
            f"config.encoder_init={encoder_init}: no such file; give 'random' or a "
            ".safetensors file of ResNet-50 weights"
        )
    if Path(encoder_init).suffix != ".safetensors":
        raise BratsError(
            f"config.encoder_init={encoder_init}: only .safetensors files are read, pickled "
            'ones never; convert it with safetensors.torch.save_file(state_dict, "x.safetensors")'
        )


def _check_transfer(settings: Settings) -> None:
    transfer, decoder = settings.transfer, settings.pretrain.decoder
    name = f"config.transfer.parts={transfer.parts}"
    if not settings.ssl:
        return
    if transfer.parts == "encoder_decoder" and decoder != "unet":
        raise BratsError(
            f"{name} with config.pretrain.decoder={decoder}: the segmentation's decoder is a "
            "U-Net; pretrain with --config.pretrain.decoder=unet, or transfer other parts"
        )
    if transfer.parts == "batch_norm_statistics" and transfer.slows_down:
        raise BratsError(
            f"{name} transfers no parameter that config.transfer.freeze_epochs or "
            "config.transfer.learning_rate_factor could concern; leave them at 0 and 1"
        )
    if transfer.other_stem == "encoder_init" and settings.encoder_init == "random":
        raise BratsError(
            "config.transfer.other_stem=encoder_init without a weight file; give "
            "--config.encoder_init=FILE.safetensors, or other_stem=random"
        )


def _check_labels(settings: Settings) -> None:
    data = settings.data
    if not data.label_patients:
        return
    if data.label_fraction != 1:
        raise BratsError(
            f"config.data.label_patients={data.label_patients} and "
            f"config.data.label_fraction={data.label_fraction}: give one of them"
        )
    if data.split_by != "patient":
        raise BratsError(
            f"config.data.label_patients={data.label_patients} with config.data.split_by=slice, "
            "which splits slices and not patients; give config.data.label_fraction"
        )


def _check_selection(settings: Settings) -> None:
    metric, data = settings.segment.selection_metric, settings.data
    if metric == VOLUME_DICE and data.split_by != "patient" and not settings.trains_on_all:
        raise BratsError(
            f"config.segment.selection_metric={metric} with config.data.split_by={data.split_by}, "
            "which leaves no whole volume in a validation set; give split_by=patient, or "
            f"selection_metric={SELECTION_METRICS[0]}"
        )


def _check_optimiser(settings: Settings) -> None:
    optim, default = settings.optim, IF_ABSENT["optim.weight_decay"]
    if optim.optimizer != "adamw" and optim.weight_decay != default:
        raise BratsError(
            f"config.optim.weight_decay={optim.weight_decay} has no effect with "
            f"config.optim.optimizer={optim.optimizer}; give --config.optim.optimizer=adamw, or "
            f"leave weight_decay at {default}"
        )
    for name in stages_of(settings):
        epochs = settings.stage(name).epochs
        if optim.warmup_epochs >= epochs:
            raise BratsError(
                f"config.optim.warmup_epochs={optim.warmup_epochs}: give less than "
                f"config.{name}.epochs={epochs}, or 0 for no warm-up"
            )


def _check_evaluation(settings: Settings) -> None:
    evaluation, data = settings.evaluation, settings.data
    name = f"config.evaluation.subsets={evaluation.subsets}"
    if not evaluation.subsets:
        return
    if evaluation.slices != "all":
        raise BratsError(
            f"{name} with config.evaluation.slices={evaluation.slices}: the Dice in 3D needs all "
            "slices; give --config.evaluation.slices=all"
        )
    if data.split_by != "patient" and not settings.trains_on_all:
        raise BratsError(
            f"{name} with config.data.split_by={data.split_by}, which leaves no whole volume in "
            "the test set; give split_by=patient, or leave subsets out"
        )


def check_groups(settings: Settings) -> None:
    """Refuses groups of BatchNorm that do not make up the batch (BratsError)."""
    size, batch = settings.train.norm_group, settings.train.batch_size
    model, dropout = settings.model, settings.segment.modality_dropout
    own = model.fusion != "early" and model.fusion_weights == "own"
    by_modality = model.fusion == "stem" or own
    if by_modality and dropout:
        # A module that reads one modality is given the images of other patients of the batch in
        # place of missing ones (`fusion.base.stand_ins_of_batch`): of other groups and devices.
        for name, off in (("norm_group", 0), ("gradient_sum_dtype", devices.GRADIENT_SUMS[0])):
            value = getattr(settings.train, name)
            if value != off:
                raise BratsError(
                    f"config.train.{name}={value} does not go with config.segment.modality_dropout="
                    f"{dropout} and own weights of each modality (model.fusion={model.fusion}): "
                    "patients of other groups stand in for missing images; leave one of them out, "
                    "or give fusion=encoders or attention with shared weights"
                )
    if size and batch % size:
        raise BratsError(
            f"config.train.norm_group={size}: does not divide config.train.batch_size={batch}; "
            "give a divisor of it, or 0 for the whole batch"
        )


def check_workdir(settings: Settings, workdir: Path) -> None:
    """Refuses to put a run or a grid into one of its stores (BratsError)."""
    folder = workdir.resolve()
    for name in (settings.data.store, *settings.data.other_stores):
        store = Path(name).resolve()
        if folder.is_relative_to(store):
            where = "is the store" if folder == store else f"lies in the store {store}"
            raise BratsError(
                f"{workdir} {where}, which holds nothing else: choose another --workdir"
            )


def check_patches(settings: Settings, store: Store) -> None:
    """Refuses patches that do not fit the store's slices (BratsError)."""
    height, width = store.slice_shape
    size = settings.data.patch_size
    if size > min(height, width):
        raise BratsError(
            f"config.data.patch_size={size} does not fit slices of {height} x {width} "
            f"({store.path}); give at most {min(height, width)}"
        )


def check_evaluated_planes(settings: Settings, store: Store, planes: SeveralPlanes | None) -> None:
    """Refuses an evaluation in planes that the training does not read (BratsError)."""
    known = tuple(one.plane for one in planes.stores) if planes else (store.plane,)
    chosen_planes(known, settings.evaluation.planes, "config.evaluation.planes: this run")


def check_labels(store: Store, mode: str) -> None:
    """Refuses to segment without any labels of the classes (BratsError)."""
    if mode != "pretrain" and not store.labelled.any():
        raise BratsError(
            f"no patient of {store.path} has labels of the classes: give --mode=pretrain to train "
            "the first stage alone, or add labelled cases to the store"
        )


def check_batches(settings: Settings, mesh: Mesh) -> None:
    """Refuses a training batch that the devices cannot share (BratsError); others are filled up."""
    train = settings.train
    devices.check_batch_size(train.batch_size, mesh, "config.train.batch_size")
    check_gradient_sum(train.batch_size, train.norm_group, mesh.size, train.gradient_sum_dtype)
