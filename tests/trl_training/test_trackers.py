"""A key sends a run to W&B or trackio."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import CPU, run_script

RUN = ["--use_peft", "true", "--use_dora", "true", "--lora_r", "4", "--max_steps", "2", "--save_strategy", "no"]
RUN += ["--gradient_checkpointing", "false", *CPU]


@pytest.mark.skipif(not find_spec("wandb"), reason="requirements/extras.txt is not installed")
def test_wandb_gets_the_settings_and_the_metrics_of_a_run_without_a_network(random_model, tiny_data, tmp_path):
    own = {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_PROJECT": "recode-test", "WANDB_SILENT": "true"}
    flags = [*RUN, "--model_name_or_path", random_model, "--data", tiny_data, "--output_dir", tmp_path / "run"]
    run_script("sft.py", *flags, "--report_to", "wandb", "--run_name", "short-run", env=own)
    [log] = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    content = log.read_bytes()
    for text in (b"recode-test", b"short-run", b"learning_rate", b"train/loss", b"train/mean_token_accuracy"):
        assert text in content


@pytest.mark.parametrize("tracker", ["wandb", "trackio"])
@pytest.mark.parametrize("script", ["grpo", "sft"])
def test_the_key_reaches_the_trainer_and_brings_its_package(
    script, tracker, random_model, tiny_data, tmp_path, monkeypatch, capsys
):
    import importlib

    from transformers.integrations import get_reporting_integration_callbacks

    module = importlib.import_module(script)
    config = Path(__file__).parent.parent.parent / "configs" / "quickstart" / f"{script}.yaml"
    flags = ["--config", str(config), "--data", str(tiny_data), "--output_dir", str(tmp_path), "--check", "1"]
    flags += ["--model_name_or_path", str(random_model)]
    flags += ["--report_to", tracker, "--run_name", "mine", "--project", "recode", "--trackio_space_id", "me/log"]
    _, args, _ = module.parse_arguments(flags)
    assert args.report_to == [tracker]
    assert (args.run_name, args.project, args.trackio_space_id) == ("mine", "recode", "me/log")
    [callback] = get_reporting_integration_callbacks(args.report_to)
    assert callback.__name__ == f"{tracker.capitalize()}Callback"
    monkeypatch.setattr("sys.argv", [f"{script}.py", *flags])
    module.main()
    assert capsys.readouterr().out == "requirements/extras.txt\n"
