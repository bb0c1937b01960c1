"""A trained run as one object: from scans to labels or to a synthetic modality.

model = brats_jax.load("RUN")
labels = model.segment({"t1": a, "t1gd": b, "t2": c, "flair": d})
"""

import dataclasses
import datetime
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from brats_jax import about
from brats_jax.data.modalities import channel_indices
from brats_jax.data.normalise import brain_mask, normalise
from brats_jax.data.scans import provenance, writing
from brats_jax.data.scans.options import MAX_CASE_GB, ReadOptions
from brats_jax.data.scans.scan import Scan
from brats_jax.errors import BratsError
from brats_jax.inference import postprocess
from brats_jax.inference.ensemble import SliceLabels
from brats_jax.inference.inputs import (
    Arrays,
    CaseInput,
    Images,
    NiftiImages,
    Paths,
    parse_images,
)
from brats_jax.inference.missing import (
    MissingInputs,
    header_note,
    missing_inputs,
    parse_left_out,
    required_inputs,
    warn_caller,
    warn_of_names,
    with_notes,
)
from brats_jax.inference.postprocess import Cleaning
from brats_jax.inference.results import (
    Segmented,
    SyntheticModality,
    chosen_target,
    label_names,
    label_values,
    note_on_air,
)
from brats_jax.inference.several_runs import ensemble_of
from brats_jax.inference.synthesis import Synthesiser, filled_in
from brats_jax.inference.trained_run import TrainedRun
from brats_jax.inference.viewer_facts import facts_of
from brats_jax.runs.sidecars import (
    Averaged,
    SegmentationOutputSidecar,
    SegmentationSidecar,
    Sidecar,
    SyntheticOutputSidecar,
    SyntheticSidecar,
)
from brats_jax.runtime.document import Part
from brats_jax.runtime.item_progress import Progress, part_of
from brats_jax.runtime.text import joined, plural, without_folders

if TYPE_CHECKING:
    from nibabel import Nifti1Image


class Model:
    """The networks of a run, ready for any number of cases; `brats_jax.load` makes it.

    Args:
      trained: the run.
      tta: average over flips too.
      cleaning: cleaning of the labels.
      batch_size: slices at a time; 0 for the default of the device.
      max_case_gb: the largest size of a case that is read, unpacked, in 10^9 bytes.
      leave_out: modalities that are not used, even if a case has them.
      synthesiser: predicts modalities that a case lacks; None: nothing does.
    """

    def __init__(
        self,
        trained: TrainedRun,
        *,
        tta: bool = False,
        cleaning: Cleaning = Cleaning(),  # noqa: B008, immutable
        batch_size: int = 0,
        max_case_gb: float = MAX_CASE_GB,
        leave_out: str | Sequence[str] = (),
        synthesiser: Synthesiser | None = None,
    ) -> None:
        self.trained, self.cleaning, self.max_case_gb = trained, cleaning, max_case_gb
        self.leave_out, self.synthesiser = parse_left_out(leave_out), synthesiser
        self.ensemble = ensemble_of(trained, flips=tta, batch_size=batch_size)

    def __repr__(self) -> str:
        """'<Model small: segment from t1, t1gd, t2, flair; axial slices; 1 network>'."""
        trained, runs = self.trained, self.trained.runs
        what = " ".join([trained.task_name, ", ".join(trained.targets)]).strip()
        planes = dict.fromkeys(plane for one in runs for plane in one.planes)
        return (
            f"<Model {', '.join(one.name for one in runs)}: {what} from {', '.join(self.inputs)}; "
            f"{joined([*planes])} slices; "
            f"{plural(sum(len(one.members) for one in runs), 'network')}>"
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The modalities that the model reads; see `missing_inputs` for what a case may lack."""
        return self.trained.inputs

    def missing_inputs(self, present: Collection[str]) -> MissingInputs:
        """The inputs that a case with these modalities lacks, and what is done about them."""
        used = {name for name in present if name not in self.leave_out}
        return missing_inputs(
            self.inputs,
            used,
            takes_missing=self.trained.takes_missing,
            synthesis=self.synthesiser.synthesis if self.synthesiser else None,
            networks_inputs=[one.task.inputs for one in self.trained.runs],
        )

    @overload
    def segment(
        self, images: Arrays, *, et_label: int = ..., affine: np.ndarray | None = ...,
        output: None = ..., resample: bool = ..., orientation: str = ...,
    ) -> np.ndarray: ...  # fmt: skip

    @overload
    def segment(
        self, images: NiftiImages, *, et_label: int = ..., affine: None = ...,
        output: None = ..., resample: bool = ..., orientation: str = ...,
    ) -> "Nifti1Image": ...  # fmt: skip

    @overload
    def segment(
        self, images: Paths, *, et_label: int = ..., affine: None = ...,
        output: str | Path, resample: bool = ..., orientation: str = ...,
    ) -> Path: ...  # fmt: skip

    def segment(
        self,
        images: Images,
        *,
        et_label: int = 4,
        affine: np.ndarray | None = None,
        output: str | Path | None = None,
        resample: bool = False,
        orientation: str = "",
    ) -> Any:
        """Labels of one case, in the form of its images.

        Args:
          images: by modality ('t1', 't1gd', 't2', 'flair', or as BraTS spells them) arrays
            [x, y, z], nibabel images or paths; or the path of a case's folder.
          et_label: 4 as in BraTS 2020 and 2021, or 3 as from 2023 on.
          affine: of arrays: float[4, 4], voxel to scanner mm; None: 1 mm voxels, axes running
            Left, Posterior, Superior.
          output: for paths: the .nii.gz to write. NAME.json beside NAME.nii.gz, written after it,
            states use, hash of the model, settings, version of the program and input files. A file
            that is there is replaced only if this program wrote it and nobody edited it since.
          resample: resample images whose grids differ from each other or from 1 mm.
          orientation: the axes, e.g. 'LPS', of images whose headers do not decide them.

        Warns (UserWarning) of modalities that are missing or synthetic, but for those left out,
        and of files whose names contradict their modalities.

        Returns:
          Labels 0, 1, 2 and `et_label`, in the shape, axes and data type of the first modality
          (uint8 for arrays of floats): an array, an image, or the path written.

        Raises:
          BratsError: images that do not fit the model, or an output that must not be replaced.
        """
        self._check_task("segment")
        given = parse_images(images, affine, output, max_case_gb=self.max_case_gb)
        found = self.predict(self._scan(given, resample, orientation))
        warn_caller(self._missing_in(found.scan), self.synthesiser, self.leave_out)
        values = label_values(found, et_label)
        sidecar = SegmentationOutputSidecar(
            **self.sidecar_fields(found.scan), labels=label_names(et_label)
        )
        return self._return(given, found.scan, values, sidecar)

    @overload
    def reconstruct(
        self, images: Arrays, *, affine: np.ndarray | None = ...,
        output: None = ..., resample: bool = ..., orientation: str = ..., target: str = ...,
    ) -> np.ndarray: ...  # fmt: skip

    @overload
    def reconstruct(
        self, images: NiftiImages, *, affine: None = ...,
        output: None = ..., resample: bool = ..., orientation: str = ..., target: str = ...,
    ) -> "Nifti1Image": ...  # fmt: skip

    @overload
    def reconstruct(
        self, images: Paths, *, affine: None = ...,
        output: str | Path, resample: bool = ..., orientation: str = ..., target: str = ...,
    ) -> Path: ...  # fmt: skip

    def reconstruct(
        self,
        images: Images,
        *,
        affine: np.ndarray | None = None,
        output: str | Path | None = None,
        resample: bool = False,
        orientation: str = "",
        target: str = "",
    ) -> Any:
        """The target modality of one case, float32; arguments and forms as in `segment`.

        `target` chooses one where the run predicts several.

        The values are z-scores as in the training data, not intensities of a scanner.
        """
        self._check_task("reconstruct")
        given = parse_images(images, affine, output, max_case_gb=self.max_case_gb)
        scan = self._scan(given, resample, orientation)
        found = chosen_target(self.synthesise(scan), target)
        sidecar = SyntheticOutputSidecar(
            **self.sidecar_fields(scan), **self.describe_synthetic([found])
        )
        return self._return(given, scan, scan.to_input(found.image, nearest=False), sidecar)

    def scan(
        self,
        images: Images,
        *,
        affine: np.ndarray | None = None,
        resample: bool = False,
        orientation: str = "",
    ) -> Scan:
        """The scan for `predict` or `synthesise`, from images in any form that `segment` takes."""
        given = parse_images(
            images, affine, None, returns_volume=False, max_case_gb=self.max_case_gb
        )
        return self._scan(given, resample, orientation)

    def _scan(self, given: CaseInput, resample: bool, orientation: str) -> Scan:
        options = ReadOptions(orientation, self.max_case_gb)
        missing = self.missing_inputs(given.present)
        needed, remedy = required_inputs(self, missing, given.present, flag=False)
        scan = given.to_scan(
            needed, self.trained.in_plane, resample, options, self.leave_out, remedy
        )
        warn_of_names(scan.notes)
        return with_notes(scan, missing, self.synthesiser)

    def normalise(self, scan: Scan) -> np.ndarray:
        """The network's input float16[slices, H, W, 4], normalised as the training data."""
        return normalise(scan.images, self.trained.normalisation)

    def predict(self, scan: Scan, *, details: bool = False) -> Segmented:
        """Segments a scan; with `details`, it returns probabilities and entropy too."""
        return self.finish(scan, self.label(scan, self.normalise(scan), details=details))

    def label(
        self,
        scan: Scan,
        images: np.ndarray,
        *,
        details: bool = False,
        progress: Progress | None = None,
    ) -> SliceLabels:
        """Labels before cleaning, from the modalities of the scan and the synthetic ones.

        Args:
          scan: the scan.
          images: float16[slices, H, W, 4], its normalised images.
          details: return probabilities and entropy too.
          progress: called with the share of the computation that is done, 0 to 1.
        """
        present = None
        if any(name not in scan.present for name in self.inputs):
            present = (*scan.present, *scan.synthetic)
        if scan.synthetic:
            assert self.synthesiser is not None
            first, progress = part_of(progress, 0, 2), part_of(progress, 1, 2)
            images = filled_in(scan, images, self.synthesiser, self.trained.normalisation, first)
        return self.ensemble.segment(images, present=present, details=details, progress=progress)

    def finish(self, scan: Scan, found: SliceLabels) -> Segmented:
        """Cleans the ensemble's labels and measures their volumes."""
        air, removed = None, self.cleaning.clear_air
        if removed:
            tumour = np.maximum(found.labels, found.views.max(axis=0, initial=0))
            air = postprocess.tumour_in_air(tumour, scan.images)
        labels = self.cleaning.apply(found.labels, scan.voxel_mm3, air)
        notes = (
            self.cleaning.emptied(found.labels, labels, scan.voxel_mm3),
            note_on_air(found.labels if removed else labels, scan.images, removed=removed),
        )
        scan = dataclasses.replace(scan, notes=(*scan.notes, *filter(None, notes)))
        return Segmented(
            scan=scan,
            labels=labels,
            probabilities=found.probabilities,
            entropy=found.entropy,
            volumes=postprocess.volumes(labels, found.views, scan.voxel_mm3, self.cleaning, air),
        )

    def synthesise(self, scan: Scan) -> list[SyntheticModality]:
        """Predicts the targets of the first stage, with their errors where the scan has them."""
        images = self.normalise(scan)
        return self.compare(scan, images, self.ensemble.reconstruct(images))

    def compare(self, scan: Scan, images: np.ndarray, found: np.ndarray) -> list[SyntheticModality]:
        """Compares the predicted modalities to the real ones.

        Args:
          scan: the scan.
          images: float16[slices, H, W, 4], its normalised images.
          found: float32[slices, H, W] of the only target, or [slices, H, W, K].
        """
        targets, brain = self.trained.targets, brain_mask(scan.images)
        compared = []
        for k, target in enumerate(targets):
            predicted = found if len(targets) == 1 else np.ascontiguousarray(found[..., k])
            error = mse = None
            if target in scan.present:
                error = predicted - images[..., channel_indices([target])[0]].astype(np.float32)
                mse = float(np.mean(np.square(error[brain]), dtype=np.float64))
            compared.append(SyntheticModality(scan, target, predicted, error, mse))
        return compared

    def header_note(self, scan: Scan) -> str:
        """The note in the header of every file of a case: at most 79 characters."""
        missing, program = self._missing_in(scan), f"brats_jax {about.__version__}"
        if missing:
            return header_note("RESEARCH USE ONLY", program, self.trained.hash, missing)
        return f"RESEARCH USE ONLY, no diagnosis; {program}; model {self.trained.hash[:12]}"

    def _missing_in(self, scan: Scan) -> MissingInputs:
        """The inputs that a scan lacks; none for a first stage, which refuses such a scan."""
        return self.missing_inputs(scan.present) if self.trained.segments else MissingInputs()

    def missing_fields(self, missing: MissingInputs) -> dict[str, Any]:
        """The fields `missing` and `synthetic` of a sidecar: the inputs that a case lacks."""
        made_by = self.synthesiser.hash if self.synthesiser is not None else ""
        return {"missing": missing.dropped, "synthetic": dict.fromkeys(missing.synthetic, made_by)}

    @property
    def averaged(self) -> Averaged:
        """The predictions in the average: folds, flips and planes."""
        runs = self.trained.runs
        folds, flips = sum(len(one.members) for one in runs), len(self.ensemble.flips)
        if not any(one.chosen_planes for one in runs):
            return Averaged(folds, flips)
        planes = tuple(plane for one in runs for plane in one.planes)
        return Averaged(folds, flips, planes, self.ensemble.size)

    def sidecar_fields(self, scan: Scan) -> dict[str, Any]:
        """The fields of every sidecar: the case, the program, the model and its settings."""
        return {
            "case": scan.name,
            "use": about.RESEARCH_USE_ONLY,
            "program": provenance.OURS,
            "version": about.__version__,
            "model": self.trained.describe(),
            "averaged": self.averaged,
            "min_component_mm3": self.cleaning.min_component_mm3,
            "min_et_mm3": self.cleaning.min_et_mm3,
            "clear_air": self.cleaning.clear_air,
            "fitted": self.cleaning.fitted,
            "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "inputs": {name: Path(path).name for name, path in scan.files.items()},
            "notes": tuple(without_folders(note) for note in self._notes_in_files(scan)),
            **self.missing_fields(self._missing_in(scan)),
        }

    def describe_synthetic(self, found: Sequence[SyntheticModality]) -> dict[str, Any]:
        """The fields of the sidecar of synthetic modalities: targets, unit and error.

        The error is the mean over the targets that the scan has.
        """
        unit = f"z-scores, normalised by {self.trained.normalisation}"
        known = [one.mse for one in found if one.mse is not None]
        return {
            "target": ",".join(one.target for one in found),
            "unit": unit,
            "mse_brain": float(np.mean(known)) if known else None,
        }

    def describe_case(self, scan: Scan) -> dict[str, Any]:
        """`sidecar_fields` as JSON has them, for callers that write files of their own."""
        return Part.to_json(Sidecar(**self.sidecar_fields(scan)))

    def facts(self, scan: Scan) -> dict[str, str]:
        """The model of a case's prediction in words, by name, for the viewer."""
        return facts_of(self.trained, self.cleaning, self.averaged, self._missing_in(scan))

    def notes(self, scan: Scan) -> list[str]:
        """Notes on a case, for readers of its results."""
        notes = list(scan.notes)
        if self.trained.has_seen(scan.name):
            notes.append(
                "a case of this name is in the training or validation sets of the run: its result "
                "says nothing about the quality on new scans"
            )
        return notes

    def _notes_in_files(self, scan: Scan) -> list[str]:
        """The notes on a case and on the model, which the terminal has once for all cases."""
        return [*self.notes(scan), *filter(None, [self.cleaning.note])]

    def _return(
        self,
        given: CaseInput,
        scan: Scan,
        volume: np.ndarray,
        sidecar: SegmentationSidecar | SyntheticSidecar,
    ) -> Any:
        """The result in the form of the images; writes a file with its sidecar."""
        labels = isinstance(sidecar, SegmentationSidecar)
        made = given.return_volume(scan, volume, labels=labels, note=self.header_note(scan))
        if given.output is None:
            return made
        given.output.write(writing.encoded(made, given.output.path), sidecar)
        return given.output.path

    def _check_task(self, task: str) -> None:
        if self.trained.task_name != task:
            raise BratsError(
                f"this model was loaded with task='{self.trained.task_name}': give load() "
                f"task='{task}'"
            )
