from brats_jax.data.store.summary import summary_table


def test_every_number_by_hand():
    manifest = {
        "summary": {
            "patients": 3,
            "subjects": 2,
            "slices": 1200,
            "tumour_slices": 300,
            "slices_per_class": [1200, 120, 300, 60],
            "pixels_per_class": [10_000_000, 1000, 3000, 4000],
            "bytes": 26_400_000_000,
        },
        "normalisation": "volume",
        "percentile": 99.5,
        "slice_shape": [240, 230],
        "modalities": ["t1", "t1gd", "t2", "flair"],
        "source": {"kind": "kaggle", "folder": "here", "channel_order": ["t1", "t2"]},
        "audit": {"verdict": "not possible"},
        "notes": {f"N{i}": ["odd", "strange"] for i in range(7)},
        "skipped": {"P7": "P7_t1.nii cannot be read"},
    }
    lines = summary_table("store", manifest).splitlines()
    table = {line.split()[0]: " ".join(line.split()[1:]) for line in lines if line}
    assert table["store"] == "store (26.40 GB)"
    assert table["source"] == "kaggle: folder here, channel_order t1,t2"
    assert table["patients"] == "3 (2 people, scanned more than once)"
    assert table["slices"] == "1,200 of 240 x 230, 300 with tumour"
    assert table["modalities"] == "T1, T1Gd, T2, FLAIR"
    assert "over the brain; background 0" in table["normalisation"]
    assert table["background"] == "1,200 100.0% 10,000,000"
    assert table["NCR/NET"] == "120 10.0% 1,000 12.5%"
    assert table["ED"] == "300 25.0% 3,000 37.5%"
    assert table["ET"] == "60 5.0% 4,000 50.0%"
    assert "notes on 7 cases (all of them in manifest.json):" in lines
    assert table["N4:"] == "odd; strange" and "N5:" not in table
    assert lines[-2:] == ["left out 1 bad case:", "  P7: P7_t1.nii cannot be read"]


def test_no_tumour_at_all():
    manifest = {
        "summary": {
            "patients": 1,
            "subjects": 1,
            "slices": 2,
            "tumour_slices": 0,
            "slices_per_class": [2, 0, 0, 0],
            "pixels_per_class": [8, 0, 0, 0],
            "bytes": 1,
        },
        "normalisation": "slice",
        "percentile": 99.5,
        "slice_shape": [2, 2],
        "modalities": [],
        "source": {"kind": "nifti"},
        "audit": {"verdict": "not possible"},
        "notes": {},
        "skipped": {},
    }
    assert summary_table("s", manifest).splitlines()[-1].split() == ["ET", "0", "0.0%", "0"]
