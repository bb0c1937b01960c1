"""Task01_BrainTumour of the Medical Segmentation Decathlon: an image with four channels per case.

    imagesTr/BRATS_001.nii.gz   [240, 240, 155, 4]       484 cases
    labelsTr/BRATS_001.nii.gz   1 ED, 2 NCR/NET, 3 ET
    imagesTs/BRATS_485.nii.gz   unlabelled               266 cases

dataset.json names the channels and the labels.

Reference: Antonelli et al. 2022, https://doi.org/10.1038/s41467-022-30695-9
"""

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.scans.volumes import Volume, read_channels
from brats_jax.data.sources.dataset_folder import ALL_CHANNELS, FolderCase
from brats_jax.data.sources.dataset_source import DatasetSource


class MsdSource(DatasetSource):
    """A folder of the Medical Segmentation Decathlon, see `DatasetSource`."""

    name = "msd"

    def missing(self, case: FolderCase) -> list[str]:
        return [name for name in MODALITIES if name not in self.json.modalities]

    def volumes(self, case: FolderCase) -> dict[str, Volume]:
        return read_channels(case.images[ALL_CHANNELS], self.json.modalities, self.options)

    def notices(self) -> list[str]:
        return [
            *super().notices(),
            "Task01_BrainTumour holds cases of BraTS 2016 and 2017 under other names: no test set "
            "beside it should hold cases of these years, or of later ones that repeat them",
        ]
