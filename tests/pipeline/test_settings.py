"""Settings: what is refused, how it is worded, and how overrides reach the phases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from nir.engines.base import ENGINES
from nir.errors import NirError
from nir.fit.presets import PRESETS
from nir.fit.settings import FitConfig, Phase, fit_config
from nir.pipeline.settings import PipelineConfig, load_pipeline

NIR = {"name": "nir", "engine": "nir"}

BIDS = {"kind": "bids", "data": "d"}


def pipeline(**changes: Any) -> dict[str, Any]:
    return {"cohort": {"kind": "demo"}, "methods": [NIR]} | changes


def faults(raw: dict[str, Any]) -> list[str]:
    """The lines of the message, the headline checked and dropped."""
    with pytest.raises(NirError) as caught:
        load_pipeline(raw)
    head, *lines = str(caught.value).splitlines()
    assert head == f"The configuration has {len(lines)} fault(s):"
    assert all(line.startswith("  - ") for line in lines)
    return [line.removeprefix("  - ") for line in lines]


class TestPipeline:
    def test_the_smallest_configuration_is_enough(self) -> None:
        config = load_pipeline(pipeline())
        assert config.methods[0].fit == fit_config("default")

    @pytest.mark.parametrize(
        ("raw", "line"),
        [
            (pipeline(method=[]), "method: unknown key; did you mean 'methods'?"),
            (pipeline(zzz=1), "zzz: unknown key; remove it"),
            (
                pipeline(preprocess={"skullstrip": "none"}),
                "preprocess.skullstrip: unknown key; did you mean 'skull_strip'?",
            ),
            ({"cohort": {"kind": "demo"}}, "methods: this key is needed and missing"),
            (
                pipeline(affine={"kind": "affine"}),
                "affine.kind: input should be 'Rigid', 'Similarity' or 'Affine', found 'affine'",
            ),
            (
                pipeline(cohort={"kind": "table"}),
                "cohort: kind 'table' needs the key 'table': CSV or TSV with columns id, image and"
                " optionally labels, mask, keypoints, exclude, channel_2, channel_3, ...",
            ),
            (
                pipeline(cohort={"kind": "oasis1"}),
                "cohort: kind 'oasis1' needs the key 'data': the dataset's top folder",
            ),
            (
                pipeline(cohort={"kind": "demo", "demo": {"seeds": 1}}),
                "cohort.demo.seeds: unknown key; did you mean 'seed'?",
            ),
            (
                pipeline(cohort={"kind": "oasis1", "dat": "x", "data": "x"}),
                "cohort.dat: the kind 'oasis1' has no such key; did you mean 'data'?",
            ),
            (
                pipeline(cohort={"kind": "tablex"}),
                "cohort.kind: no kind of cohort is called 'tablex': known are bids, demo,"
                " learn2reg, lpba40, neurite-oasis, oasis1, table; did you mean 'table'?",
            ),
            (
                pipeline(cohort={"kind": 3}),
                "cohort.kind: expected text, found 3; put quotes around it",
            ),
            (
                pipeline(cohort=[]),
                "cohort: input should be a valid dictionary or instance of CohortConfig, found []",
            ),
            (
                pipeline(pairs={"mode": "to-subject"}),
                "pairs: mode 'to-subject' needs the key 'subject'",
            ),
            (
                pipeline(preprocess={"percentiles": [99, 1]}),
                "preprocess: percentiles: expected 0 <= low < high <= 100, found 99.0, 1.0",
            ),
            (
                pipeline(methods=[NIR, {"name": "nir", "engine": "syn"}]),
                "configuration: methods: names must differ, found twice: nir",
            ),
        ],
    )
    def test_a_fault_is_one_line(self, raw: dict[str, Any], line: str) -> None:
        assert faults(raw) == [line]

    @pytest.mark.parametrize(
        ("raw", "line"),
        [
            (
                pipeline(name=10),
                "name: expected text, found 10; put quotes around it in the file of settings"
                " (Snakemake's --config drops them)",
            ),
            (
                pipeline(cohort=BIDS | {"bids": {"subjects": ["01", False]}}),
                "cohort.bids.subjects.1: expected text, found False; put quotes around it",
            ),
            (
                pipeline(cohort={"kind": "demo", "labels": [3, True]}),
                "cohort: labels: expected a number, found true; write the number",
            ),
            (
                pipeline(cohort={"kind": "demo", "labels": [3, "010"]}),
                "cohort: labels: expected a number without zeros before it (010 is 8 in YAML 1.1),"
                " found 010; remove them",
            ),
            (
                pipeline(seed="007"),
                "configuration: seed: expected a number without zeros before it (010 is 8 in YAML"
                " 1.1), found 007; remove them",
            ),
            (
                pipeline(methods=[NIR | {"set": {"steps": "050"}}]),
                "methods.0: phases.*: steps: expected a number without zeros before it (010 is 8 in"
                " YAML 1.1), found 050; remove them",
            ),
        ],
    )
    def test_what_yaml_may_read_otherwise_is_told(self, raw: dict[str, Any], line: str) -> None:
        assert faults(raw) == [line]

    def test_text_is_taken_where_text_is_meant(self) -> None:
        asked = {"subjects": ["010", "no", 2], "runs": [1]}
        raw = pipeline(
            cohort=BIDS | {"bids": asked, "labels_exclude": ["10"]},
            preprocess={"bias_correction": "no"},
            pairs={"mode": "to-subject", "subject": 12},
        )
        config = load_pipeline(raw)
        assert config.cohort.bids.subjects == ("010", "no", "2")  # type: ignore[attr-defined]
        assert config.cohort.labels_exclude == (10,)
        assert config.pairs.subject == "12"
        assert config.preprocess.bias_correction is False

    def test_a_tilde_is_the_home_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", "/home/ann")
        config = load_pipeline(
            pipeline(
                cohort={"table": "~/t.csv", "root": "~", "label_names": "~/n.tsv"},
                pairs={"mode": "table", "table": "~/p.csv"},
                template={"image": "~/i.nii", "mask": "~/m.nii", "labels": "~/l.nii"},
            )
        )
        found = [config.cohort.table, config.cohort.root]  # type: ignore[attr-defined]
        found += [config.cohort.label_names, config.pairs.table, *vars(config.template).values()]
        paths = [str(path) for path in found if isinstance(path, Path)]
        assert len(paths) == 7
        assert all(path.startswith("/home/ann") for path in paths)
        bids = load_pipeline(
            pipeline(
                cohort={"kind": "bids", "data": "~/d", "bids": {"derivatives": ["~/m", "a/~"]}}
            )
        )
        assert bids.cohort.data == Path("/home/ann/d")  # type: ignore[attr-defined]
        assert bids.cohort.bids.derivatives == (Path("/home/ann/m"), Path("a/~"))  # type: ignore[attr-defined]

    def test_all_faults_are_told_at_once(self) -> None:
        raw = pipeline(
            sed=3,
            threads=0,
            cohort={"kind": "demo", "on_invalid": "ignore"},
            methods=[NIR, {"name": "bad name", "engine": "syn", "bins": -1}],
        )
        starts = [line.partition(":")[0] for line in faults(raw)]
        expected = ["cohort.on_invalid", "methods.1.bins", "methods.1.name", "sed", "threads"]
        assert sorted(starts) == expected

    def test_an_empty_list_of_methods(self) -> None:
        (line,) = faults(pipeline(methods=[]))
        assert line.startswith("methods: tuple should have at least 1 item")

    def test_a_faulty_method_is_not_told_as_a_missing_one(self) -> None:
        (line,) = faults(pipeline(methods=[{"name": "nir", "engine": "nirr"}]))
        known = ", ".join(ENGINES.names)  # with those of the benchmarks, where a test loaded them
        assert line == (
            f"methods.0.engine: no engine is called 'nirr': known are {known}; did you mean 'nir'?"
        )

    def test_faults_of_a_fit_name_the_method(self) -> None:
        method = NIR | {"set": {"stepz": 3, "smoothness": -1}}
        assert faults(pipeline(methods=[method])) == [
            "methods.0: phases.*.smoothness: input should be greater than or equal to 0, found -1",
            "methods.0: stepz: unknown key; did you mean 'steps'?",
        ]

    def test_set_is_refused_where_it_has_no_meaning(self) -> None:
        method = {"name": "syn", "engine": "syn", "set": {"steps": 3}}
        assert faults(pipeline(methods=[method])) == [
            "methods.0.set: the engine 'syn' has no such key; it has name, engine, metric, radius,"
            " bins, iterations, flow_sigma"
        ]

    def test_a_key_of_an_engine_is_told_the_nearest(self) -> None:
        method = {"name": "syn", "engine": "syn", "metrics": "CC", "bins": 0}
        assert faults(pipeline(methods=[method])) == [
            "methods.0.bins: input should be greater than or equal to 1, found 0",
            "methods.0.metrics: the engine 'syn' has no such key; did you mean 'metric'?",
        ]

    @pytest.mark.parametrize(
        ("method", "line"),
        [
            ({"name": "x"}, "methods.0.engine: this key is needed and missing"),
            ({"engine": "syn"}, "methods.0.name: this key is needed and missing"),
            (
                {"name": "x", "engine": 3},
                "methods.0.engine: expected text, found 3; put quotes around it",
            ),
        ],
    )
    def test_a_method_needs_a_name_and_an_engine(self, method: dict[str, Any], line: str) -> None:
        assert faults(pipeline(methods=[method])) == [line]

    def test_settings_cannot_be_changed_afterwards(self) -> None:
        config = load_pipeline(pipeline())
        with pytest.raises(ValidationError, match="frozen"):
            config.seed = 2

    def test_every_setting_of_the_schema_refuses_strangers(self) -> None:
        schema = PipelineConfig.model_json_schema()
        parts = [schema, *schema["$defs"].values()]
        assert all(part["additionalProperties"] is False for part in parts)


class TestFit:
    @pytest.mark.parametrize("name", PRESETS)
    def test_presets_are_valid(self, name: str) -> None:
        assert fit_config(name).phases

    def test_an_unknown_preset_gives_the_nearest(self) -> None:
        with pytest.raises(NirError, match=r"known are .*did you mean 'default'\?"):
            fit_config("default2")

    def test_overrides_are_not_changed_by_a_fit(self) -> None:
        phase = {"steps": 100}
        fit_config("default", {"phases": [phase], "steps": 2})
        assert phase == {"steps": 100}

    def test_a_preset_is_not_changed_by_overrides(self) -> None:
        before = fit_config("default")
        fit_config("default", {"steps": 7, "phases.0.lr": 0.5})
        assert fit_config("default") == before

    def test_a_key_of_the_fit(self) -> None:
        assert fit_config("default", {"model": "displacement"}).model == "displacement"

    def test_a_key_of_every_phase(self) -> None:
        assert {phase.steps for phase in fit_config("default", {"steps": 7}).phases} == {7}

    def test_a_key_of_one_phase(self) -> None:
        config = fit_config("default", {"steps": 7, "phases.1.steps": 9})
        assert [phase.steps for phase in config.phases[:3]] == [7, 9, 7]

    def test_phases_as_a_whole(self) -> None:
        config = fit_config("default", {"phases": [{"steps": 3}, {}]})
        assert config.phases == (Phase(steps=3), Phase())

    @pytest.mark.parametrize(
        ("overrides", "words"),
        [
            ({"stepz": 3}, "stepz: unknown key; did you mean 'steps'?"),
            ({"phases.0.stepz": 3}, "phases.0.stepz: unknown key; did you mean 'steps'?"),
            ({"phases.99.steps": 3}, "phases.99.steps: the fit has phases 0 to "),
            ({"phases.x.steps": 3}, "phases.x.steps: the fit has phases 0 to "),
            ({"phases.-1.steps": 3}, "phases.-1.steps: the fit has phases 0 to "),
            ({"phases": 3, "steps": 5}, "phases: expected a list of mappings, found 3"),
            ({"phases": [3]}, "phases: expected a list of mappings, found [3]"),
            ({"phases": []}, "phases: tuple should have at least 1 item"),
            ({"phases.0.lr": 0}, "phases.0.lr: input should be greater than 0, found 0"),
            ({"lr": 0}, "phases.*.lr: input should be greater than 0, found 0"),
            ({"steps": "many"}, "phases.*.steps: input should be a valid integer"),
            ({"encoding_levels": []}, "phases.*.encoding_levels: tuple should have at least 1"),
            ({"dropout": 1}, "phases.*.dropout: input should be less than 1, found 1"),
            ({"reach": 0}, "phases.*.reach: input should be greater than or equal to 1, found 0"),
            ({"step_vox": 1.1}, "phases.*.step_vox: input should be less than or equal to 1"),
            ({"step_vox": 0}, "phases.*.step_vox: input should be greater than 0, found 0"),
            ({"viscosity_vox": -1}, "phases.*.viscosity_vox: input should be greater than or"),
            ({"elasticity_vox": -1}, "phases.*.elasticity_vox: input should be greater than or"),
            (
                {"solver": "fluids"},
                "input should be 'field', 'search', 'fluid' or 'distil'",
            ),
            ({"sampler": "randon"}, "input should be 'downsize', 'mini-patch' or 'random'"),
        ],
    )
    def test_bad_overrides(self, overrides: dict[str, Any], words: str) -> None:
        with pytest.raises(NirError) as caught:
            fit_config("default", overrides)
        assert words in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1

    def test_the_random_sampler_has_no_windows_for_lncc(self) -> None:
        with pytest.raises(NirError, match=r"phases\.\*: the random sampler .*set similarity"):
            fit_config("neural", {"sampler": "random"})
        config = fit_config("neural", {"sampler": "random", "similarity": "mse"})
        assert config.phases[0].sampler == "random"

    @pytest.mark.parametrize("other", [{"lattice": 2}, {"encoding": "grid"}, {"bounded": True}])
    def test_what_follows_is_read_at_any_point(self, other: dict[str, Any]) -> None:
        with pytest.raises(NirError, match=r"phases\.4: solver 'distil' .* set encoding to spline"):
            fit_config("neural", other)

    def test_a_patch_holds_a_window(self) -> None:
        patch = {"sampler": "mini-patch", "patch_size": 6, "radius": 3}
        with pytest.raises(NirError, match=r"patch_size 6 is smaller than the window of LNCC, 7"):
            fit_config("neural", patch)
        assert fit_config("neural", patch | {"patch_size": 7}).phases[0].patch_size == 7
        assert fit_config("neural", patch | {"similarity": "mse"}).phases[0].patch_size == 6

    @pytest.mark.parametrize("similarity", ["nmi", {"mind": 1, "ncc": 2}])
    def test_a_search_needs_a_price_a_voxel(self, similarity: object) -> None:
        phases = [{"solver": "search", "similarity": similarity}]
        with pytest.raises(NirError) as caught:
            fit_config("default", {"phases": phases})
        words = str(caught.value)
        assert words.startswith("phases.0: solver 'search' prices voxel by voxel, which n")
        assert words.endswith("set similarity to one of lncc, mind, mse, ngf")
        assert faults(pipeline(methods=[NIR | {"set": {"phases": phases}}])) == [
            f"methods.0: {words}"
        ]

    @pytest.mark.parametrize(
        ("given", "written"),
        [("ngf", {"ngf": 1.0}), ({"nmi": 1, "mind": {"weight": 3}}, {"nmi": 1.0, "mind": 3.0})],
    )
    def test_a_similarity_is_written_as_its_weight(self, given: Any, written: Any) -> None:
        phase = Phase(similarity=given)
        assert phase.model_dump()["similarity"] == written
        assert json.loads(phase.model_dump_json())["similarity"] == written
        assert Phase.model_validate(phase.model_dump()) == phase

    @pytest.mark.parametrize(
        ("similarity", "words"),
        [
            (
                "nmj",
                "phases.*.similarity.nmj: no similarity is called 'nmj': known are lncc, mind,",
            ),
            ({"nmj": 1}, "ncc, ngf, nmi; did you mean 'nmi'?"),
            ({"nmi": {"weigt": 1}}, "similarity.nmi: weigt: unknown key; did you mean 'weight'?"),
            ({"nmi": 0}, "similarity.nmi: input should be greater than 0, found 0"),
            ({}, "similarity: expected one at least, found none"),
        ],
    )
    def test_bad_similarities(self, similarity: object, words: str) -> None:
        with pytest.raises(NirError) as caught:
            fit_config("neural", {"similarity": similarity})
        assert words in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1

    def test_a_fit_needs_a_phase(self) -> None:
        with pytest.raises(ValidationError):
            FitConfig(phases=())
