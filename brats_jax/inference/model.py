"""A trained run as one object: scans in, labels or a synthetic modality out.

model = brats_jax.load("RUN")
labels = model.segment({"t1": a, "t1gd": b, "t2": c, "flair": d})
"""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from brats_jax import about
from brats_jax.data.modalities import CLASSES, channel_indices
from brats_jax.data.normalise import brain_mask, normalise
from brats_jax.data.scans.case_files import subject_of
from brats_jax.data.scans.scan import Scan
from brats_jax.errors import BratsError
from brats_jax.inference import inputs as kinds
from brats_jax.inference import postprocess
from brats_jax.inference.ensemble import Ensemble, SliceLabels
from brats_jax.inference.postprocess import Cleaning
from brats_jax.inference.results import Reconstructed, Segmented, label_values
from brats_jax.inference.trained_run import TrainedRun, open_run
from brats_jax.runtime import devices
from brats_jax.runtime.files import write_json
from brats_jax.tasks import Pretraining

if TYPE_CHECKING:
    from nibabel import Nifti1Image

TASKS = ("segment", "reconstruct")
SIDECAR_SCHEMA = "brats_jax.output"
SIDECAR_VERSION = 1


class Model:
    """The models of a run, ready for any number of cases; `brats_jax.load` makes it.

    Args:
      trained: the run.
      tta: average over flips too.
      cleaning: what is done to labels.
      batch_size: slices at a time; 0 lets the device decide.
    """

    def __init__(
        self,
        trained: TrainedRun,
        *,
        tta: bool = False,
        cleaning: Cleaning = Cleaning(),  # noqa: B008, immutable
        batch_size: int = 0,
    ) -> None:
        self.trained, self.cleaning = trained, cleaning
        self.ensemble = Ensemble(trained.members, flips=tta, batch_size=batch_size)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The modalities that it needs."""
        return self.trained.task.inputs

    @overload
    def segment(
        self, images: kinds.Arrays, *, et_label: int = ..., affine: np.ndarray | None = ...,
        output: None = ..., resample: bool = ...,
    ) -> np.ndarray: ...  # fmt: skip

    @overload
    def segment(
        self, images: kinds.NiftiImages, *, et_label: int = ..., affine: None = ...,
        output: None = ..., resample: bool = ...,
    ) -> "Nifti1Image": ...  # fmt: skip

    @overload
    def segment(
        self, images: kinds.Paths, *, et_label: int = ..., affine: None = ...,
        output: str | Path, resample: bool = ...,
    ) -> Path: ...  # fmt: skip

    def segment(
        self,
        images: kinds.Images,
        *,
        et_label: int = 4,
        affine: np.ndarray | None = None,
        output: str | Path | None = None,
        resample: bool = False,
    ) -> Any:
        """Labels of one case, in whatever form its images were given.

        Args:
          images: by modality ('t1', 't1gd', 't2', 'flair', or as BraTS spells them) arrays
            [x, y, z], nibabel images or paths; or the path of a case's folder.
          et_label: 4 as in BraTS 2020 and 2021, or 3 as from 2023 on.
          affine: of arrays: float[4, 4], voxel to scanner mm; None: 1 mm voxels, axes running
            Left, Posterior, Superior.
          output: for paths: the .nii.gz to write. NAME.json beside NAME.nii.gz, written after it,
            names use, model by its hash, settings, program's version and input files.
          resample: bring onto a grid that fits what does not.

        Returns:
          Labels 0, 1, 2 and `et_label`, in the shape and axes of the first modality: an array,
          an image, or the path written. Of its data type; arrays of floats give uint8.

        Raises:
          BratsError: images that the model cannot be given.
        """
        self._demand("segment")
        given = kinds.take(images, affine, output)
        found = self.predict(given.scan(self.inputs, self.trained.in_plane, resample))
        values = label_values(found, et_label)
        names = {str(value): name for value, name in zip((0, 1, 2, et_label), CLASSES, strict=True)}
        return self._give(given, found.scan, values, {"labels": names})

    @overload
    def reconstruct(
        self, images: kinds.Arrays, *, affine: np.ndarray | None = ...,
        output: None = ..., resample: bool = ...,
    ) -> np.ndarray: ...  # fmt: skip

    @overload
    def reconstruct(
        self, images: kinds.NiftiImages, *, affine: None = ...,
        output: None = ..., resample: bool = ...,
    ) -> "Nifti1Image": ...  # fmt: skip

    @overload
    def reconstruct(
        self, images: kinds.Paths, *, affine: None = ...,
        output: str | Path, resample: bool = ...,
    ) -> Path: ...  # fmt: skip

    def reconstruct(
        self,
        images: kinds.Images,
        *,
        affine: np.ndarray | None = None,
        output: str | Path | None = None,
        resample: bool = False,
    ) -> Any:
        """The target modality of one case, float32; takes and returns what `segment` does.

        The values are z-scores as the model was trained on, not intensities of any scanner.
        """
        self._demand("reconstruct")
        given = kinds.take(images, affine, output)
        scan = given.scan(self.inputs, self.trained.in_plane, resample)
        found = self.synthesise(scan)
        return self._give(
            given, scan, scan.to_input(found.image, nearest=False), self.synthetic_facts(found)
        )

    def scan(
        self, images: kinds.Images, *, affine: np.ndarray | None = None, resample: bool = False
    ) -> Scan:
        """The scan for `predict` or `synthesise`, of whatever `segment` takes."""
        given = kinds.take(images, affine, None, one_way=True)
        return given.scan(self.inputs, self.trained.in_plane, resample)

    def normalise(self, scan: Scan) -> np.ndarray:
        """float16[slices, H, W, 4]: what the network sees, made as the store's was."""
        return normalise(scan.images, self.trained.normalisation)

    def predict(self, scan: Scan, *, details: bool = False) -> Segmented:
        """Segments a scan; with `details`, probabilities and entropy too."""
        return self.finish(scan, self.ensemble.segment(self.normalise(scan), details=details))

    def finish(self, scan: Scan, found: SliceLabels) -> Segmented:
        """Cleans and measures what the ensemble has found."""
        labels = self.cleaning.apply(found.labels, scan.voxel_mm3)
        return Segmented(
            scan=scan,
            labels=labels,
            probabilities=found.probabilities,
            entropy=found.entropy,
            volumes=postprocess.volumes(labels, found.views, scan.voxel_mm3, self.cleaning),
        )

    def synthesise(self, scan: Scan) -> Reconstructed:
        """Predicts the pretext's target, and how far it is from the real one if there is one."""
        images = self.normalise(scan)
        return self.compare(scan, images, self.ensemble.reconstruct(images))

    def compare(self, scan: Scan, images: np.ndarray, found: np.ndarray) -> Reconstructed:
        """Sets what was found beside the real modality, float16[slices, H, W, 4] normalised."""
        stage = self.trained.task
        assert isinstance(stage, Pretraining)
        error = mse = None
        if stage.target in scan.present:
            error = found - images[..., channel_indices([stage.target])[0]].astype(np.float32)
            mse = float(np.mean(np.square(error[brain_mask(scan.images)]), dtype=np.float64))
        return Reconstructed(scan, stage.target, found, error, mse)

    @property
    def note(self) -> str:
        """What stands in the header of every file written: at most 79 characters."""
        return (
            f"RESEARCH USE ONLY, no diagnosis; brats_jax {about.__version__}; "
            f"model {self.trained.hash[:12]}"
        )

    def describe(self) -> dict[str, Any]:
        """JSON-able: use, program, model and how it was applied."""
        return {
            "use": about.RESEARCH_USE_ONLY,
            "program": "brats_jax",
            "version": about.__version__,
            "model": self.trained.describe(),
            "averaged": {
                "folds": len(self.ensemble.members),
                "flips": len(self.ensemble.flips),
            },
            "min_component_mm3": self.cleaning.min_component_mm3,
            "min_et_mm3": self.cleaning.min_et_mm3,
        }

    def describe_case(self, scan: Scan) -> dict[str, Any]:
        """JSON-able: a case, `describe` and the time, to stand beside what was made of it."""
        return {
            "case": scan.name,
            **self.describe(),
            "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "inputs": dict(scan.files),
            "notes": self.notes(scan),
        }

    def synthetic_facts(self, found: Reconstructed) -> dict[str, Any]:
        """JSON-able: what a synthetic modality is."""
        unit = f"z-scores, normalised by {self.trained.normalisation}"
        return {"target": found.target, "unit": unit, "mse_brain": found.mse}

    def notes(self, scan: Scan) -> list[str]:
        """What a reader of its results should know of a case."""
        notes = list(scan.notes)
        if {scan.name, subject_of(scan.name)} & self.trained.seen:
            notes.append(
                "a case of this name was among those that the run trained or validated on: how "
                "well it does here says nothing about new scans"
            )
        return notes

    def _give(
        self, given: kinds.Given, scan: Scan, volume: np.ndarray, facts: Mapping[str, Any]
    ) -> Any:
        """What was made, in the form of what was given; after a file, its sidecar."""
        if given.sidecar is not None:
            given.sidecar.unlink(missing_ok=True)  # what it says is no longer so
        made = given.give(scan, volume, labels="labels" in facts, note=self.note)
        if given.sidecar is not None:
            version = {"schema": SIDECAR_SCHEMA, "schema_version": SIDECAR_VERSION}
            files = {made.name: made.stat().st_size}
            write_json(
                given.sidecar, {**version, **self.describe_case(scan), **facts, "files": files}
            )
        return made

    def _demand(self, task: str) -> None:
        if self.trained.task_name != task:
            raise BratsError(f"loaded to {self.trained.task_name}: give load() the task '{task}'")


def load(
    path: str | Path,
    *,
    task: str = "segment",
    tta: bool = False,
    calibrated: bool = False,
    min_component_mm3: float = 0.0,
    min_et_mm3: float = 0.0,
    batch_size: int = 0,
) -> Model:
    """Loads a run (all its complete folds, as an ensemble) or one fold of it.

    Args:
      path: RUN or RUN/fold_K.
      task: 'segment', or 'reconstruct' for the pretext model.
      tta: average over flips too.
      calibrated: use the temperatures that `python -m brats_jax.calibrate` has fitted.
      min_component_mm3, min_et_mm3: see `postprocess.Cleaning`; 0: labels stay as they are.
      batch_size: slices at a time; 0 lets the device decide.

    Raises:
      BratsError: nothing there to predict with.
    """
    if task not in TASKS:
        raise BratsError(f"unknown task '{task}'; valid: {', '.join(TASKS)}")
    if task == "reconstruct" and (calibrated or min_component_mm3 or min_et_mm3):
        raise BratsError("calibration and cleaning are for labels: leave them out to reconstruct")
    if min(min_component_mm3, min_et_mm3, batch_size) < 0:
        raise BratsError("sizes cannot be negative: give 0 or more")
    trained = open_run(Path(path), task, devices.data_mesh(), calibrated=calibrated)
    cleaning = Cleaning(min_component_mm3, min_et_mm3)
    return Model(trained, tta=tta, cleaning=cleaning, batch_size=batch_size)
