"""Every setting of an experiment, with its default; the other files change a few of them.

    python -m brats_jax.main --config=configs/base.py

trains the same as `configs/ssl.py`, into runs/base. The store is $BRATS_JAX_STORE or
stores/default; --workdir and --config.data.store name other folders.

Cost: two trainings of 30 epochs for each of five folds, as configs/ssl.py counts them.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The settings that all experiments share."""
    config = ConfigDict()

    config.seed = 0  # of initialisation and patches; data.split_seed is that of the split
    # Those of the data.num_folds folds that this run trains; or "all": a final model on all
    # patients, without validation and test set.
    config.folds = (0, 1, 2, 3, 4)
    config.ssl = True  # pretrain, transfer, fine-tune; False: segmentation only
    config.loss = "dice_ce"  # of the segmentation: dice_ce, dice_focal, focal
    config.focal_gamma = 2.0
    # Weight per class (background, NCR/NET, ED, ET) or, with segment.outputs=regions, per region
    # (WT, TC, ET); (): all 1.
    config.focal_alpha = ()
    config.encoder_init = "random"  # or a .safetensors file of ResNet-50 weights
    config.dtype = "auto"  # of the activations; auto: bfloat16 on accelerators, float32 on CPU
    config.compilation_cache = (
        "auto"  # folder of compiled programs; auto: the user's cache; "": none
    )
    # Experiment trackers: wandb, mlflow, or both with commas; none; auto: those whose variable
    # WANDB_PROJECT or MLFLOW_TRACKING_URI is set. docs/trackers.md.
    config.trackers = "auto"

    config.model = ConfigDict()
    config.model.width = 64  # channels of the stem; 64 is ResNet-50
    # Slope of the decoder's activations below 0: 0 is ReLU, the paper's; 0.01 is nnU-Net's leaky
    # ReLU. A narrow decoder ends in few channels. If all of them are 0 wherever a class is, this
    # class is never learned; leaky ReLU keeps a gradient there.
    config.model.slope = 0.0
    # How modalities are fused: early (the paper's), encoders, attention, stem; docs/modalities.md.
    config.model.fusion = "early"
    config.model.fusion_weights = "shared"  # of encoders by modality: shared, or own

    config.data = ConfigDict()
    config.data.store = ""  # what brats_jax.prepare wrote
    config.data.split_by = "patient"  # or slice: the paper's split of files, which leaks
    # 0: cross-validation. Each fold is tested on its own patients, so that all are tested once;
    # there is no validation set, and the last checkpoint is taken.
    config.data.test_fraction = 0.15
    config.data.num_folds = 5
    config.data.split_seed = 0  # several seeds may share one split
    # Persons who train in every fold and are never validated or tested on, such as those who may be
    # among the unlabelled scans under another name: names or patterns with commas, 'TCIA10_*'.
    config.data.training_only = ""
    # Stores of the same patients in other planes (docs/training.md, "Three planes"), with commas:
    # training reads their slices too. Validation and test sets are of data.store alone.
    config.data.other_planes = ""
    # Fraction of a fold's training patients whose labels the segmentation uses; pretraining uses
    # all patients, without labels. Smaller fractions are subsets of larger ones. The number of
    # steps of an epoch does not depend on it: every fraction gets the same number of updates.
    config.data.label_fraction = 1.0
    config.data.label_patients = 0  # the same as a number of patients; 0: label_fraction decides
    # How the checkpoint is chosen with labels of some patients only. budget: of five labelled
    # patients or more, a fifth is held out to choose it; with fewer, the last checkpoint is taken.
    # validation: on the fold's validation set, whose labels are then not counted in the budget.
    config.data.selection = "budget"
    config.data.patch_size = 128
    config.data.workers = 0  # loader processes; 0: threads of this process
    config.data.threads = 2  # reading threads in each
    # Where patches are cut. device: inside the compiled step, from slices in device memory; auto:
    # device, on an accelerator, if the slices take at most half of its memory; else host.
    config.data.placement = "auto"  # auto, host, device

    config.optim = ConfigDict()
    config.optim.learning_rate = 1e-4
    config.optim.decay_factor = 0.5
    config.optim.decay_every_epochs = 10
    # Of both stages. halve: by decay_factor and decay_every_epochs, the paper's; cosine: from
    # learning_rate to 0 at the end.
    config.optim.schedule = "halve"
    config.optim.optimizer = "adam"  # the paper's; or adamw, Adam with decoupled weight decay
    config.optim.weight_decay = 0.01  # with adamw; of kernels, not of biases and BatchNorm
    config.optim.warmup_epochs = 0.0  # first epochs of a stage, in which the rate rises from 0
    config.optim.clip_norm = 0.0  # largest norm of the gradients of a step; 0: no limit

    config.train = ConfigDict()
    config.train.batch_size = 16  # over all devices together
    config.train.validation_batch_size = 16
    # Early training is sensitive to rounding: the first epochs of each stage are computed in
    # float32, the others in bfloat16. No effect where dtype is float32.
    config.train.float32_epochs = 1
    config.train.log_every_steps = 50
    config.train.save_every_steps = 2000  # and at the end of every epoch; asynchronous
    config.train.steps_per_dispatch = 0  # 0: about 25 on accelerators; always 1 on CPU
    config.train.deterministic = True  # on GPUs: a resumed run has the same bits
    # Decay of a moving average of the network over the steps, such as 0.999; 0: no average. The
    # average is validated, selected, evaluated and transferred; training continues from the network
    # itself.
    config.train.ema = 0.0
    # Samples of a group over which BatchNorm normalises in training; 0: the whole batch. It must
    # divide batch_size. Devices that hold whole groups exchange no messages for BatchNorm.
    # norm_group and gradient_sum_dtype are refused with segment.modality_dropout where each
    # modality has its own stem or encoder (model.fusion), because images of other patients of the
    # batch are then used in place of missing ones.
    config.train.norm_group = 0
    # The type in which several devices add up the gradients of kernels: float32; bfloat16, half the
    # bytes; or auto, the type that the network computes in (dtype).
    config.train.gradient_sum_dtype = "auto"

    # Stage 1. Neither its slices nor its patches depend on the labels.
    config.pretrain = ConfigDict()
    config.pretrain.run = ""  # a run folder whose pretraining is taken instead of training one
    config.pretrain.inputs = ("t1", "t1gd")
    config.pretrain.context = 0  # slices read on each side as further channels: 0, 1 or 2
    config.pretrain.target = "flair"  # several with commas: t2,flair
    # Share of the patients without labels that pretraining uses, beside those of the training set.
    config.pretrain.unlabelled_fraction = 1.0
    # The pretext: cross_modality (the paper's), any_to_any, masked, denoise, and the controls
    # autoencode and shuffled. docs/pretexts.md describes them.
    config.pretrain.task = "cross_modality"
    config.pretrain.decoder = "transposed"  # the paper's; or unet, with skip connections
    config.pretrain.loss = "mse"  # the paper's; or l1, brain_mse, brain_ssim
    config.pretrain.mask_ratio = (0.6, 0.75)  # of masked: one share, or lowest and highest
    config.pretrain.mask_block = 16  # side of its blocks in pixels
    config.pretrain.mask_together = True  # the same blocks in all modalities
    config.pretrain.noise = 0.5  # of denoise: standard deviation, in units of the z-scored images
    config.pretrain.learning_rate = 0.0  # 0: that of config.optim
    config.pretrain.epochs = 30
    config.pretrain.steps_per_epoch = 0  # 0: one pass over the slices
    config.pretrain.slices = "all"  # tumour, all
    config.pretrain.tumour_probability = 0.0
    config.pretrain.augmentation = _augmentation(on=False)

    # From stage 1 to stage 2. Without effect if nothing is pretrained, except that freeze_epochs
    # and learning_rate_factor then apply to an encoder from the file `encoder_init`.
    config.transfer = ConfigDict()
    # encoder (the paper's), encoder_decoder (needs pretrain.decoder=unet), stem, all_but_stem,
    # batch_norm_statistics.
    config.transfer.parts = "encoder"
    config.transfer.freeze_epochs = 0  # first epochs in which the transferred parameters are frozen
    config.transfer.learning_rate_factor = 1.0  # of the transferred parameters, after these epochs
    # Initial values of the stem's channels that nothing was transferred to: random, or encoder_init
    # (from its file).
    config.transfer.other_stem = "random"

    # Stage 2.
    config.segment = ConfigDict()
    config.segment.inputs = ("t1", "t1gd", "t2", "flair")
    config.segment.context = 0  # as pretrain.context; transferred by modality and offset
    # Probability that a training example lacks some of its patient's modalities; above 0 the
    # network takes missing modalities, and patients that lack some train too (docs/modalities.md).
    config.segment.modality_dropout = 0.0
    # classes: a softmax over background, NCR/NET, ED and ET. regions: sigmoids of WT, TC and ET.
    config.segment.outputs = "classes"
    # Share of the target of cross-entropy and focal loss that is spread over all classes; not of
    # the Dice loss.
    config.segment.label_smoothing = 0.0
    # True: the Dice loss is a mean over the classes that are in the batch. False: over all classes,
    # as in the paper; small batches often lack a class, and the network may then never learn it.
    config.segment.dice_present = False
    # In training, losses of the decoder's maps at strides 2, 4 and 8 too; weights 1, 1/2, 1/4, 1/8.
    config.segment.deep_supervision = False
    config.segment.learning_rate = 0.0  # 0: that of config.optim
    config.segment.epochs = 30
    config.segment.steps_per_epoch = 0  # 0: the slices of all training patients, once
    config.segment.slices = "tumour"
    config.segment.tumour_probability = 0.5
    # The pixel that such a patch is drawn around: tumour, one of any class (the paper's), or
    # classes, one of NCR/NET, ED or ET with equal probability.
    config.segment.sampling = "tumour"
    # The score that selects the best checkpoint: dice, a mean over the validation slices (the
    # paper's), or volume_dice, the mean of WT, TC and ET over whole volumes, with all their slices.
    config.segment.selection_metric = "dice"
    config.segment.augmentation = _augmentation(on=True)

    config.evaluation = ConfigDict()
    config.evaluation.slices = "all"  # of the test set: tumour, all (needed for 3D metrics)
    config.evaluation.tolerance_mm = 1.0  # NSD: distance within which boundary pixels match
    config.evaluation.tta = False  # average over four flips, as predict --tta; four times the cost
    # Average the segmentation over slices of these planes, as predict --planes: all, or names with
    # commas; "": that of data.store. Needs a training on them (data.other_planes).
    config.evaluation.planes = ""
    # Also evaluate the segmentation from every subset of its modalities: 15 further passes.
    config.evaluation.subsets = False
    config.evaluation.batch_size = 16
    config.evaluation.panels = 4  # slices drawn for each stage and fold

    return config


def _augmentation(*, on: bool) -> ConfigDict:
    """One switch for each kind; `brats_jax.data.augment.Augmentation` has the ranges."""
    names = ("flip", "quarter_turn", "intensity_scale", "intensity_shift", "gamma", "noise")
    stronger = (
        "rotation", "scaling", "blur", "low_resolution", "modality_intensity", "modality_curve",
        "bias_field", "lesion_contrast", "thick_slices",
    )  # fmt: skip
    return ConfigDict({**dict.fromkeys(names, on), **dict.fromkeys(stronger, False)})
