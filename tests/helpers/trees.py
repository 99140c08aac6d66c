"""Generated datasets of tiny images, laid out as the cohorts that NIR reads."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np

from helpers.synthetic import ball, texture
from nir.geometry.grid import Grid
from nir.io.files import save_json
from nir.io.images import save_volume

SHAPE = (20, 22, 18)
GRID = Grid(SHAPE, np.diag([4.0, 4.0, 4.0, 1.0]))
CT_SHIFT = (1, -1, 2)  # voxels
CT_TASKS = ("nlst", "lungct", "abdomenctct")
JSON_KEYS = {"images": "image", "labels": "label", "masks": "mask", "keypoints": "keypoints"}
SCANNER = Grid((24, 24, 24), np.diag([3.5, 3.5, 3.5, 1.0]))


def brain(grid: Grid = GRID, seed: int = 0) -> np.ndarray:
    return (100 + 800 * texture(grid.shape, 2.0, seed=seed)) * ball(grid.shape, 7)


def sides(grid: Grid = GRID) -> np.ndarray:
    """Odd labels at high, even ones at low first indices: right for axes that grow to the left."""
    index = np.indices(grid.shape)
    labels = np.where(index[0] >= grid.shape[0] // 2, 21, 22) + 20 * (index[1] > 10)
    return (labels * ball(grid.shape, 7)).astype(np.uint8)


def write(path: Path, voxels: np.ndarray, grid: Grid = GRID) -> Path:
    save_volume(path, voxels.astype(np.uint8 if voxels.dtype.kind in "biu" else np.float32), grid)
    return path


def write_analyze(path: Path, voxels: np.ndarray, compressed: bool = False) -> None:
    """Write .hdr and .img, or .img.gz as LPBA40 has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.AnalyzeImage(voxels, np.diag([-4.0, 4.0, 4.0, 1.0])), path)
    path.with_suffix(".mat").unlink(missing_ok=True)
    if compressed:
        voxels_file = path.with_suffix(".img")
        with voxels_file.open("rb") as source, gzip.open(f"{voxels_file}.gz", "wb") as target:
            shutil.copyfileobj(source, target)
        voxels_file.unlink()


def neurite_oasis(root: Path, subjects: int = 3) -> Path:
    names = [f"OASIS_OAS1_{n:04}_MR1" for n in range(1, subjects + 1)]
    for number, name in enumerate(names):
        write(root / name / "aligned_norm.nii.gz", brain(seed=number))
        write(root / name / "aligned_seg35.nii.gz", sides())
        write(root / name / "norm.nii.gz", brain(SCANNER), SCANNER)
        write(root / name / "seg35.nii.gz", sides(SCANNER), SCANNER)
    (root / "subjects.txt").write_text("\n".join(names) + "\n")
    return root


def oasis1(root: Path, subjects: int = 3) -> Path:
    for number in range(1, subjects + 1):
        name = f"OAS1_{number:04}_MR1"
        folder = root / f"disc{(number + 1) // 2}" / name
        stem = f"{name}_mpr_n{3 + number % 2}_anon_111_t88_masked_gfc"
        image = brain(seed=number).astype(np.int16)
        write_analyze(folder / f"PROCESSED/MPRAGE/T88_111/{stem}.hdr", image)
        write_analyze(folder / f"FSL_SEG/{stem}_fseg.hdr", (sides() % 3 + 1).astype(np.uint8))
    return root


def learn2reg(root: Path, subjects: int = 4) -> Path:
    names = [f"OASIS_{n:04}_0000.nii.gz" for n in range(1, subjects + 1)]
    for number, name in enumerate(names):
        write(root / "imagesTr" / name, brain(seed=number))
        write(root / "labelsTr" / name, sides())
        write(root / "masksTr" / name, ball(SHAPE, 7).astype(np.uint8))
    images = [f"./imagesTr/{name}" for name in names]
    content = {
        "name": "OASIS",
        "tensorImageShape": {"0": list(SHAPE)},
        "training": [{"image": image} for image in images[:-1]],
        "registration_val": [
            {"fixed": images[0], "moving": images[1]},
            {"fixed": images[2], "moving": images[3]},
        ],
        "test": ["./imagesTs/OASIS_0900_0000.nii.gz"],
    }
    save_json(root / "OASIS_dataset.json", content)
    return root


def ct_pairs(root: Path, task: str, others: tuple[str, ...]) -> Path:
    """Write two patients with two scans each, the second one moved by whole voxels.

    Args:
        others: of ``labels``, ``masks`` and ``keypoints``, what the task has; as in Learn2Reg's own
            the JSON gives keypoints the suffix of an image.
    """
    region = ball(SHAPE, 7)
    points = np.argwhere(region)[::97][:12]
    training, pairs = [], []
    for patient in (1, 2):
        scan = np.where(region, -950 + 500 * texture(SHAPE, 1.5, seed=patient), 40)
        for phase, shift in enumerate(((0, 0, 0), CT_SHIFT)):
            name = f"{task}_{patient:04}_{phase:04}"
            write(root / f"imagesTr/{name}.nii.gz", np.roll(scan, shift, (0, 1, 2)))
            if "masks" in others:
                write(root / f"masksTr/{name}.nii.gz", np.roll(region, shift, (0, 1, 2)))
            if "labels" in others:
                write(root / f"labelsTr/{name}.nii.gz", np.roll(sides() % 13, shift, (0, 1, 2)))
            if "keypoints" in others:
                (root / "keypointsTr").mkdir(exist_ok=True)
                np.savetxt(root / f"keypointsTr/{name}.csv", points + shift, "%.3f", ",")
            parts = {JSON_KEYS[part]: part for part in ("images", *others)}
            training.append({key: f"./{part}Tr/{name}.nii.gz" for key, part in parts.items()})
        images = [item["image"] for item in training[-2:]]
        pairs.append(dict(zip(("fixed", "moving"), images, strict=True)))
    content = {
        "name": task,
        "modality": {"0": "CT", "1": "CT"},
        "registration_direction": {"fixed": 0, "moving": 1},
        "training": training,
        "test": [],
        "training_paired_images": pairs,
        "registration_val": pairs[1:],
        "registration_test": [],
    }
    save_json(root / f"{task}_dataset.json", content)
    return root


def nlst(root: Path) -> Path:
    return ct_pairs(root, "NLST", ("masks", "keypoints"))


def lungct(root: Path) -> Path:
    return ct_pairs(root, "LungCT", ("masks", "keypoints"))


def abdomenctct(root: Path) -> Path:
    return ct_pairs(root, "AbdomenCTCT", ("labels",))


def lpba40(root: Path, subjects: int = 3, compressed: bool = True) -> Path:
    for number in range(1, subjects + 1):
        stem = root / f"delineation_space/S{number:02}/S{number:02}.delineation"
        image = brain(seed=number).astype(np.int16)
        write_analyze(Path(f"{stem}.skullstripped.hdr"), image, compressed)
        write_analyze(Path(f"{stem}.structure.label.hdr"), sides(), compressed)
    return root


def bids(root: Path) -> Path:
    """Two sessions of one subject, two runs and an acquisition of another, an odd name."""
    root.mkdir(parents=True, exist_ok=True)
    about = {"Name": "Tiny", "BIDSVersion": "1.9.0"}
    (root / "dataset_description.json").write_text(json.dumps(about))
    scans = (
        "sub-01/ses-a/anat/sub-01_ses-a_T1w",
        "sub-01/ses-b/anat/sub-01_ses-b_T1w",
        "sub-02/anat/sub-02_run-2_T1w",
        "sub-02/anat/sub-02_run-1_T1w",
        "sub-02/anat/sub-02_acq-fast_T1w",
        "sub-03/anat/sub-03_T1w",
        "sub-03/anat/sub-03_T2w",
        "sub-04/anat/sub-04_mprage_T1w",
    )
    for number, name in enumerate(scans):
        write(root / f"{name}.nii.gz", brain(seed=number))
    masks = root / "derivatives/masks"
    masks.mkdir(parents=True)
    about |= {"DatasetType": "derivative", "GeneratedBy": [{"Name": "masks"}]}
    (masks / "dataset_description.json").write_text(json.dumps(about))
    for name in ("sub-01/ses-a/anat/sub-01_ses-a", "sub-03/anat/sub-03"):
        write(masks / f"{name}_desc-brain_mask.nii.gz", ball(SHAPE, 7).astype(np.uint8))
        write(masks / f"{name}_dseg.nii.gz", sides())
        write(
            masks / f"{name}_space-MNI152_desc-brain_mask.nii.gz", ball(SHAPE, 7).astype(np.uint8)
        )
    return root
