"""The example notebook runs from its first cell to its last."""

from pathlib import Path

import nbclient
import nbformat

ROOT = Path(__file__).parents[1]
# What takes its time: volumes of full size, the depth of the network, the steps of the training.
SMALLER = {
    "import brats_jax\n": "import brats_jax\nfrom brats_jax.models import resnet\n\n"
    "resnet.BLOCKS = (1, 1, 1, 1)\n",
    '"--source=phantom",': '"--source=phantom", "--shape=16,48,48",',
    "store.read([75])": "store.read([8])",
    "configs/demo.py": "tests/tiny_config.py",
    "width=8": "width=4",
    # As in tiny_config.py, so that other tests have compiled the steps.
    "pretrain.epochs=1": "pretrain.epochs=2",
    "steps_per_epoch=50": "steps_per_epoch=8",
    '"--config.segment.epochs=2",': '"--config.segment.epochs=2", "--config.evaluation.panels=0", '
    '"--config.train.save_every_steps=8",',
    '"--seed=100"': '"--seed=100", "--shape=16,48,48"',
    'case = next((folder / "scans").iterdir())\n': 'case = next((folder / "scans").iterdir())\n'
    "import nibabel\n"
    "for path in case.glob('*.nii.gz'):\n"  # a phantom of fewer voxels has larger ones
    "    image = nibabel.load(path)\n"
    "    smaller = np.diag([*1 / np.array(image.header.get_zooms()), 1])\n"
    "    voxels = np.array(image.dataobj)\n"
    "    nibabel.save(nibabel.Nifti1Image(voxels, image.affine @ smaller), path)\n",
}


def test_the_quickstart_notebook_runs_and_draws_two_figures(monkeypatch, shared_folder):
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared_folder))  # of the commands
    notebook = nbformat.read(ROOT / "examples" / "quickstart.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for full, small in SMALLER.items():
        (cell,) = [cell for cell in code if full in cell.source]
        cell.source = cell.source.replace(full, small)
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}
    )
    client.execute()
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    assert sum("image/png" in o.get("data", {}) for o in outputs) == 2
