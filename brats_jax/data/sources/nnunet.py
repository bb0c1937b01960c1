"""Raw data of nnU-Net: a file for each channel of a case.

    imagesTr/CASE_0000.nii.gz, CASE_0001.nii.gz, ...    channels as in dataset.json
    labelsTr/CASE.nii.gz
    imagesTs/CASE_0000.nii.gz, ...                      unlabelled

Channels that are none of the four modalities are left out; a case may lack some.

Reference: https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md
"""

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.scans.volumes import Volume, read_volume
from brats_jax.data.sources.dataset_folder import FolderCase
from brats_jax.data.sources.dataset_source import DatasetSource
from brats_jax.runtime import threads


class NnUNetSource(DatasetSource):
    """A folder of nnU-Net's raw data, see `DatasetSource`."""

    name = "nnunet"

    def _paths(self, case: FolderCase) -> dict[str, str]:
        """The file of each modality."""
        found = {}
        for channel, modality in enumerate(self.json.modalities):
            if modality is not None and channel in case.images:
                found[modality] = case.images[channel]
        return found

    def missing(self, case: FolderCase) -> list[str]:
        found = self._paths(case)
        return [name for name in MODALITIES if name not in found]

    def misfit(self, case: FolderCase) -> str:
        count = len(self.json.channels)
        beyond = [path for channel, path in case.images.items() if channel >= count]
        if not beyond:
            return ""
        return (
            f"{beyond[0]} is of a channel that {self.json.path} does not name (it names {count}): "
            "add it there, or take the file away"
        )

    def volumes(self, case: FolderCase) -> dict[str, Volume]:
        paths = self._paths(case)
        read = threads.parallel_map(lambda path: read_volume(path, self.options), paths.values())
        return dict(zip(paths, read, strict=True))
