"""What the rules read: input files of a job, and the parameters that go with them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemake.io import ancient

from nir.cohort.pairs import TEMPLATE, Pair
from nir.io.layout import pair_name
from nir.io.told import halves
from nir.pipeline.run import Run


@dataclass(frozen=True)
class Inputs:
    """The rules' functions of inputs and parameters, for the jobs of one run.

    Snakemake calls each with a job's wildcards. It takes functions and methods for inputs, but no
    `functools.partial`.
    """

    run: Run = field(repr=False)  # Snakemake prints methods where it looks for strange paths

    def given(self, path: Path | str) -> str:
        """Return a path; Snakemake does not heed the date of a file that the run does not make.

        The records of results know its content (`nir.pipeline.made`), and a copy has another date.
        """
        made = Path(path).absolute().is_relative_to(self.run.output.absolute())
        return str(path) if made else ancient(str(path))

    def files_for(
        self, guides: Collection[str] = (), *, scored: bool = False
    ) -> Callable[[Any], list[str]]:
        """Return a function: the files of all subjects of a batch, see `Run.brain`."""

        def files(wildcards: Any) -> list[str]:
            members = self.run.members(wildcards.batch)
            found = [self.run.brain(name, guides, scored).files for name in members]
            return list(dict.fromkeys(self.given(path) for some in found for path in some))

        return files

    def batch_for(
        self, guides: Collection[str] = (), *, scored: bool = False
    ) -> Callable[[Any], dict[str, Any]]:
        """Return a function: which pairs a job works on, and the files that it reads."""

        def batch(wildcards: Any) -> dict[str, Any]:
            members = self.run.members(wildcards.batch)
            return {
                "pairs": self.run.batches[wildcards.batch],
                "root": str(self.run.files.pairs),
                "brains": {n: self.run.brain(n, guides, scored).to_json() for n in members},
            }

        return batch

    def analyze_files(self, wildcards: Any) -> list[str]:
        """Return the Analyze image, and its other half, that a scan is imported from."""
        scan = self.run.files.raw / f"{wildcards.id}_{wildcards.part}.nii.gz"
        source = self.run.cohort.imports[scan]
        others = [half for half in halves(source) if half != source]
        return [self.given(path) for path in (source, *others)]

    def raw_files(self, wildcards: Any) -> dict[str, Any]:
        """Return the scans of a subject, and what the skull strip needs beside them."""
        subject, strip = self.run.subject(wildcards.id), self.run.config.preprocess.skull_strip
        files: dict[str, Any] = {
            "image": self.given(subject.image),
            "channels": [self.given(path) for path in subject.channels],
        }
        if strip in ("mask", "auto") and subject.mask:
            files["mask"] = self.given(subject.mask)
        if strip == "template" or (strip == "auto" and not subject.mask):
            files["template"] = self.template_files
        return files

    @property
    def template_files(self) -> list[str]:
        """The files of the template that the settings name."""
        template = self.run.config.template
        return [self.given(path) for path in (template.image, template.mask) if path]

    def strip_settings(self, wildcards: Any) -> dict[str, Any]:
        """Return the settings of a template that act on a skull strip; most take none."""
        if self.run.config.preprocess.skull_strip not in ("auto", "template"):
            return {}
        return self.run.config.template.model_dump(mode="json", exclude={"labels", "build"})

    def template_affines(self, wildcards: Any) -> dict[str, list[str]]:
        """Return each subject's affine to the template and its record; the template needs none."""
        names = [name for name in self.run.members(wildcards.batch) if name != TEMPLATE]
        folders = {name: self.run.files.subject(name) for name in names}
        return {name: [str(f.affine), str(f.affine_record)] for name, f in folders.items()}

    def template_affine_files(self, wildcards: Any) -> list[str]:
        """Return the files of `template_affines`."""
        return [path for files in self.template_affines(wildcards).values() for path in files]

    def method_settings(self, wildcards: Any) -> dict[str, Any]:
        """Return what decides a registration: a change of it, and of nothing else, reruns it."""
        return self.run.methods[wildcards.method].own_settings

    def label_names_file(self, wildcards: Any) -> list[str]:
        """Return the table of label names, if there is one."""
        return [self.given(path)] if (path := self.run.cohort.label_names) else []

    def truth_folder(self, wildcards: Any) -> list[str]:
        """Return the folder of the true deformations, where they are known."""
        return [str(path)] if (path := self.run.cohort.truth) else []

    def as_fixed(self, wildcards: Any) -> dict[str, str]:
        """Return the files of a subject as moving and of a round's template as fixed brain."""
        fixed = self.run.files.before_round(int(wildcards.round))
        moving = self.run.files.subject(wildcards.id)
        return {
            "fixed_brain": str(fixed.brain),
            "fixed_mask": str(fixed.mask),
            "moving_brain": str(moving.brain),
            "moving_mask": str(moving.mask),
        }

    def round_files(self, wildcards: Any) -> dict[str, Any]:
        """Return what a round's average is made of."""
        number = int(wildcards.round)
        before, own = self.run.files.before_round(number), self.run.files.round(number)
        names = [subject.id for subject in self.run.cohort.subjects]
        prepared = [self.run.files.subject(name) for name in names]
        members = [own.member(name) for name in names]
        files: dict[str, Any] = {
            "brain": str(before.brain),
            "mask": str(before.mask),
            "brains": [str(subject.brain) for subject in prepared],
            "masks": [str(subject.mask) for subject in prepared],
            "matrices": [str(member.affine) for member in members],
        }
        if number:
            files["warps"] = [str(member.forward) for member in members]
        return files

    def atlas_pairs(self, wildcards: Any) -> list[list[str]]:
        """Return the atlases of a subject: marker, name of the pair, warped image and labels."""
        found = []
        for moving in self.run.atlases[wildcards.fixed]:
            pair = (wildcards.fixed, moving)
            marker = self.run.marker("evaluate", self.run.batch_of(*pair), wildcards.method)
            own = self.run.files.pair(*pair).results(wildcards.method)
            found.append([marker, pair_name(*pair), str(own.warped), str(own.warped_labels)])
        return found

    def atlas_files(self, wildcards: Any) -> dict[str, Any]:
        """Return the subject's own files and the markers of the batches of its atlases."""
        own = self.run.subject(wildcards.fixed).labels
        markers = [entry[0] for entry in self.atlas_pairs(wildcards)]
        return {
            "brain": str(self.run.files.subject(wildcards.fixed).brain),
            "truth": [self.given(own)] if own else [],
            "markers": list(dict.fromkeys(markers)),
        }

    def evaluated(self) -> list[tuple[str, str, list[Pair]]]:
        """Return the markers of all batches and methods, each with its pairs."""
        return [
            (self.run.marker("evaluate", batch, method), method, pairs)
            for batch, pairs in self.run.batches.items()
            for method in self.run.methods
        ]
