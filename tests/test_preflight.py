"""Preflight: its arithmetic by hand, its answers, the program, and the numbers on the pages."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import hardware_table
import pytest
from preflight_runs import DORA, GB, QWEN_7B, ROOT, SHAPE, SMI, TARGETS, A, P, fake_smi, grpo, rows

import preflight
from common import footprint, node, node_checks, step_time
from common.errors import InputError
from common.fit import Place, Report, verdict
from common.model_shape import NotModelled, shape_of
from common.step_time import GPU_TYPES, gpu_type
from trl_training import memory, memory_report


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A folder with nothing but the 7B model's config.json."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text(json.dumps(QWEN_7B), "utf-8")
    return folder


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_parameters_of_a_7b_model():
    assert (SHAPE.layer, SHAPE.parameters) == (233_057_792, P)
    assert (DORA.parameters(SHAPE), DORA.target_weights(SHAPE)) == (A, TARGETS)
    assert footprint.cache_token(SHAPE) == 57_344


def test_grpo_on_one_gpu_by_hand():
    """configs/grpo.yaml on one GPU: 8 completions a step, 4 at once, 3,072 tokens each."""
    estimate = memory.estimate(SHAPE, grpo(), 80 * GB)
    found = rows(estimate)
    every = ("rollout", "scoring", "update")
    assert found["weights"] == dict.fromkeys(every, 15_231_233_024)  # 2 P
    assert found["adapter"] == dict.fromkeys(every, 81_199_104)  # 4 A
    assert found["AdamW"] == dict.fromkeys(every, 162_398_208)  # 8 A
    assert found["gradients"] == {"update": 81_199_104}  # 4 A
    assert found["merge: copies of targets"] == {"rollout": 822_083_584}  # 2 x targets
    # 8 x 3072 x 57,344 x 29/28
    assert found["KV cache, 8 x 3072"] == {"rollout": pytest.approx(1_459_617_792)}
    # 8 x 2048 prompt tokens x (6 x 18944 + 8 x 3584 = 142,336)
    assert found["prompts, one layer"] == {"rollout": 2_332_033_024}
    # t = 4 x 3072 = 12,288 tokens: (2 x 28 + 8) x 3584 x t
    assert found["inputs of layers"] == {"update": 2_818_572_288}
    # saved: norms 8 x 3584 = 28,672, attention 8 x 3584 = 28,672, MLP 6 x 18944 = 113,664; q: 2 x 3584 + 2 x 64 + 3584
    # (mask) + 4 x 3584 = 25,216; v: 2 x 3584 + 2 x 64 + 3584 + 4 x 512 = 12,928: 209,152 for a token.
    # gradients: 6 x 18944 + 4 x 3584 + 8 x 3584 = 156,672. Once: 2 x A / 28 = 1,449,984, 2 x (3584² + 3584 x 512) =
    # 29,360,128. 365,824 x 12,288 + 30,810,112. Without gradients: 142,336 x 12,288.
    layer = found["one layer, again and backward"]
    assert layer == {"scoring": 1_749_024_768, "update": 4_526_055_424}
    # a tile of 4096 x 32768 x 2, and 4 x 1024 hidden states in bf16 (and their float32 gradients)
    assert found["log-probabilities, tiles"] == {"scoring": 297_795_584, "update": 356_515_840}
    # 15,556,029,440 + 1,000,000,000 + 1.1 x 7,701,143,552
    assert estimate.total("update") == pytest.approx(25_027_287_347)
    # 15,474,830,336 + 1,000,000,000 + 1.1 x 4,613,734,400
    assert estimate.total("rollout") == pytest.approx(21_549_938_176)
    assert estimate.peak == estimate.total("update")


def test_the_share_of_a_process_decides_what_is_at_once():
    """On 8 GPUs one sequence each: 3,072 tokens, and DDP's copy of the gradients."""
    found = rows(memory.estimate(SHAPE, grpo(processes=8), 80 * GB))
    assert found["DDP's buckets"]["update"] == 81_199_104  # 4 A
    assert found["inputs of layers"] == {"update": 704_643_072}  # 64 x 3584 x 3072
    assert found["KV cache, 1 x 3072"] == {"rollout": pytest.approx(182_452_224)}


def test_rollouts_with_cache_stock_and_vllm():
    assert rows(memory.estimate(SHAPE, grpo("--dora_generation", "cache"), 80 * GB))["cache: copies of targets"] == {
        "rollout": 4 * TARGETS
    }
    stock = rows(memory.estimate(SHAPE, grpo("--dora_generation=stock"), 80 * GB))
    assert stock["DoRA's norm"] == {"rollout": 282_591_232}  # q: 22 x 3584²
    flags = ("--use_vllm", "true", "--vllm_mode", "colocate", "--vllm_gpu_memory_utilization", "0.4")
    vllm = rows(memory.estimate(SHAPE, grpo(*flags), 80 * GB))
    assert vllm["vLLM"] == dict.fromkeys(("rollout", "scoring", "update"), 32 * GB)
    assert vllm["base weights kept in the sync"] == {"rollout": 2 * TARGETS}
    assert vllm["DoRA's norm"] == {"scoring": 282_591_232}  # the old policy's log-probabilities
    asleep = rows(memory.estimate(SHAPE, grpo(*flags, "--vllm_enable_sleep_mode"), 80 * GB))
    assert asleep["vLLM"] == {"rollout": 32 * GB}


def test_a_vllm_server_leaves_its_memory_and_time_out():
    """The trainer keeps its base weights in the sync; the server samples on GPUs of its own."""
    run = grpo("--use_vllm", "true", "--vllm_mode", "server")
    found = rows(memory.estimate(SHAPE, run, 80 * GB))
    assert found["base weights kept in the sync"] == {"rollout": 2 * TARGETS}
    assert "vLLM" not in found and "KV cache, 8 x 3072" not in found
    h100 = gpu_type("H100")
    assert h100 is not None
    part = memory.seconds(SHAPE, run, memory.Lengths(650, 600), h100)[0]
    assert (part.name, part.formula, part.seconds) == ("rollout", "not counted: on the server's GPUs", 0)


def test_all_weights_with_zero2_on_two_gpus():
    """2 P of weights, 2 P of the reference, 12 P / 2 of AdamW and float32 copies, 2 P / 2 of gradients: 83.8 GB; the
    optimizer copies the gradients to float32, 4 P / 2."""
    run = grpo("--use_peft", "false", processes=2, zero=2)
    found = rows(memory.estimate(SHAPE, run, 80 * GB))
    state = ["weights", "reference model", "AdamW, float32 copies", "gradients"]
    assert [found[name]["update"] for name in state] == [2 * P, 2 * P, 6 * P, P]
    assert found["their float32 copies"] == {"optimizer": 2 * P}


def test_all_linear_adapts_seven_modules():
    """r 64 on 7 modules: in + out 7168 (q, o), 4096 (k, v), 22528 (gate, up, down): 90,112 x 64, and 53,760 magnitudes:
    3584 + 2 x 512 + 3584 + 2 x 18944 + 3584 = 49,664. Copies: all weights of the layers but biases and norms, 13 GB."""
    run = grpo("--lora_target_modules", "all-linear")
    assert run.adapter is not None
    assert run.adapter.parameters(SHAPE) == 28 * (64 * (2 * 7168 + 2 * 4096 + 3 * 22528) + 49_664)
    copies = rows(memory.estimate(SHAPE, run, 80 * GB))["merge: copies of targets"]["rollout"]
    assert copies == 2 * 28 * (233_057_792 - 4_608 - 7_168)  # 13.1 GB


@cache
def dapo_config(name: str):
    from verl_training import config

    return config.compose(name)


def dapo(model: Path, name: str, gpus: int, gigabytes: int, **values: object):
    from omegaconf import OmegaConf

    from verl_training.memory import report_of

    config = dapo_config(name).copy()
    OmegaConf.update(config, "trainer.n_gpus_per_node", gpus)
    OmegaConf.update(config, "actor_rollout_ref.model.path", str(model))
    for key, value in values.items():
        OmegaConf.update(config, f"actor_rollout_ref.{key}", value)
    place = Place(gpus, 1, gigabytes * GB, gigabytes * GB)
    return report_of(config, place), place


def test_dapo_on_two_gpus_by_hand(model):
    """configs/dapo.yaml: float32 shards on 2 GPUs; 6,144 tokens at once in an update, 12,288 in scoring."""
    report, _ = dapo(model, "dapo", 2, 80)
    found = rows(report.estimate)
    assert found["weights, float32 shards"]["update"] == 4 * (P + A) / 2  # 15.27 GB
    assert "rollout" not in found["weights, float32 shards"]  # param_offload
    assert found["vLLM"] == {"rollout": 64 * GB, "sync": 2 * P + 2**31}  # 0.8 of 80; weights and a bucket of 2 GiB
    # a bf16 embedding of 152064 x 3584 in use and one prefetched; sync: the same in float32 and in bf16
    assert found["gathered weights"] == {
        "scoring": 2_179_989_504,
        "update": 2_179_989_504,
        "sync": 3_269_984_256,
    }
    # 6 x 152064 x 12,288 and 6 x 152064 x 6,144: a bf16 logit and a float32 log-softmax or softmax
    assert found["logits"] == {"scoring": 11_211_374_592, "update": 5_605_687_296}
    assert found["inputs of layers"] == {"update": 1_409_286_144}  # 64 x 3584 x 6,144
    assert report.estimate.peak == 66 * GB  # vLLM, and two CUDA contexts


def test_a_temperature_adds_a_copy_of_the_logits(model):
    report, _ = dapo(model, "dapo", 2, 80, **{"rollout.temperature": 0.9})
    assert rows(report.estimate)["logits"]["update"] == 8 * 152_064 * 6_144


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.use_fused_kernels", True),
        ("model.use_remove_padding", False),
        ("actor.use_torch_compile", False),
        ("actor.entropy_coeff", 0.01),
        ("actor.strategy", "fsdp"),
        ("rollout.name", "hf"),
    ],
)
def test_other_ways_of_verl_have_no_number(model, key, value):
    with pytest.raises(NotModelled):
        dapo(model, "dapo", 2, 80, **{key: value})


def test_dapo_with_all_weights_by_hand(model):
    """configs/dapo_released.yaml on 2 GPUs: shards of 2 P weights, 2 P gradients, 4 P AdamW; and torch's 2 P."""
    report, _ = dapo(model, "dapo_released", 2, 80)
    found = rows(report.estimate)
    state = ["weights, float32 shards", "gradients", "AdamW", "AdamW's temporary"]
    assert [found[name]["optimizer"] for name in state] == [2 * P, 2 * P, 4 * P, 2 * P]
    assert report.estimate.peak == pytest.approx(10.2 * P + 2 * GB)  # 79.7 GB: the optimizer, with its margin
    assert report.estimate.disk == 3 * 12 * P  # 274 GB


def test_seconds_of_a_step_by_hand():
    """H100: 0.4 x 989e12 operations, 3.35e12 bytes a second. Layers and LM head: 28 x 233,057,792 + 152064 x 3584."""
    h100 = gpu_type("NVIDIA H100 80GB HBM3")
    assert h100 is not None and SHAPE.computed == 7_070_615_552
    parts = memory.seconds(SHAPE, grpo(processes=2), memory.Lengths(650, 600), h100)
    found = {part.name: part.seconds for part in parts}
    assert found["rollout"] == pytest.approx(600 * 28 * 45 * 20e-6)  # 15.1: 1,260 launches a token
    tokens = 4 * 1250
    assert found["scoring"] == pytest.approx(2 * 7_070_615_552 * tokens / (0.4 * 989e12))  # 0.18: the reference
    # 0.57: checkpointing; the adapter, and with dropout the base's products of the targets once more
    assert found["update"] == pytest.approx(6 * (7_070_615_552 + A + TARGETS) * tokens / (0.4 * 989e12))
    vllm = grpo("--use_vllm", "true", processes=2)
    token = (2 * 7_070_615_552 + 4 * (650 + 300) * 57_344) / (0.67 * 3.35e12)  # 6.4 ms
    assert memory.seconds(SHAPE, vllm, memory.Lengths(650, 600), h100)[0].seconds == pytest.approx(600 * token + 1.5)


def test_a_part_takes_at_least_its_launches():
    """SFT with one short sequence on an H100: 28 layers x (45 + 2 x 22) x 2 for forward, twice, + 75 + 2 x 20."""
    h100 = gpu_type("H100")
    assert h100 is not None
    found = step_time.update_part(SHAPE, DORA, 10, 1, True, h100).seconds
    assert found == pytest.approx(28 * (2 * 89 + 115) * 20e-6)  # 0.16 s
    assert step_time.update_part(SHAPE, DORA, 10, 3, True, h100).seconds == pytest.approx(3 * found)
    assert step_time.forward_seconds(SHAPE, 10, 2, h100) == pytest.approx(2 * 28 * 45 * 20e-6)


def test_the_limits_of_a_run_bound_its_time():
    h100 = gpu_type("H100")
    assert h100 is not None
    short = grpo("--max_prompt_length", "256", "--max_completion_length", "100", "--use_vllm", "true")
    rollout, scoring, _ = memory.seconds(SHAPE, short, memory.Lengths(650, 600), h100)
    token = (2 * 7_070_615_552 + 8 * (256 + 50) * 57_344) / (0.67 * 3.35e12)
    assert rollout.seconds == pytest.approx(100 * token + 1.5)
    # of the reference and, with vLLM, the old policy: two sequences of four, in two parts
    assert scoring.seconds == pytest.approx(2 * max(2 * 7_070_615_552 * 8 * 356 / (0.4 * 989e12), 2 * 28 * 45 * 20e-6))
    # Eight GPUs share the weights; 4 KV heads are held by two of them each.
    eight = step_time.vllm_token(SHAPE, 8, memory.Lengths(256, 100), 8, h100)
    assert eight == pytest.approx((2 * 7_070_615_552 / 8 + 8 * 306 * 57_344 / 4) / (0.67 * 3.35e12))


# --- answers ----------------------------------------------------------------------------------------------------------

VLLM = ("--use_vllm", "true", "--vllm_mode", "colocate")
NO_KEYS = "one or two keys are not enough: use GPUs with more memory, or a smaller model"
SHARE = "does not fit: vLLM's share of {} GB is below the 16.9 GB that it starts with"
TP_2 = "actor_rollout_ref.rollout.tensor_model_parallel_size=2"
# Fits: at most 95 % of the GPU: 22.8, 38, 76 and 134 GB. Tight: up to all of it.
TRL = [
    # GRPO: 25.0 GB with 4 sequences at once (above), 25.1 with DDP's 0.1 GB. With 2 at once the update takes 15.56 +
    # 0.08 + 1 + 1.1 x (1.41 + 2.28 + 0.18) = 20.9 GB; one GPU samples 8 (21.5 GB, above), each of two samples 4. With 1
    # at once, on 8 GPUs: 15.64 + 1 + 1.1 x (0.70 + 1.15 + 0.09) = 18.8 GB.
    ("grpo", 24, 1, "does not fit: 25.0: set --per_device_train_batch_size 2 (21.5 GB)"),
    ("grpo", 24, 2, "does not fit: 25.1: set --per_device_train_batch_size 2 (20.9 GB)"),
    ("grpo", 24, 8, "fits: 18.8"),
    *[("grpo", size, 1, "fits: 25.0") for size in (40, 80, 141)],
    *[("grpo", size, 2, "fits: 25.1") for size in (40, 80, 141)],
    *[("grpo", size, 8, "fits: 18.8") for size in (40, 80, 141)],
    # vLLM starts with 15.2 GB of weights, 3,072 x 57,344 = 0.2 of cache and 1.5 of its own: 16.9 GB. trl's default, 0.3
    # of the GPU, is 7.2, 12, 24 and 42.3 GB. On 40 GB, 0.45 is 18: with 25.0 too much, with 18.8 on 8 GPUs enough.
    ("vllm", 24, 1, f"{SHARE.format(7.2)}: set --per_device_train_batch_size 2 and --use_vllm false (21.5 GB)"),
    ("vllm", 24, 2, f"{SHARE.format(7.2)}: set --per_device_train_batch_size 2 and --use_vllm false (20.9 GB)"),
    ("vllm", 24, 8, f"{SHARE.format(7.2)}: set --use_vllm false (18.8 GB)"),
    ("vllm", 40, 1, f"{SHARE.format(12.0)}: set --use_vllm false (25.0 GB)"),
    ("vllm", 40, 2, f"{SHARE.format(12.0)}: set --use_vllm false (25.1 GB)"),
    ("vllm", 40, 8, f"{SHARE.format(12.0)}: set --vllm_gpu_memory_utilization 0.45 (36.8 GB)"),
    ("vllm", 80, 1, "fits: 49.0"),  # 24 + 25.0
    ("vllm", 80, 2, "fits: 49.1"),
    ("vllm", 80, 8, "fits: 42.8"),
    ("vllm", 141, 1, "fits: 67.3"),  # 42.3 + 25.0
    ("vllm", 141, 2, "fits: 67.4"),
    ("vllm", 141, 8, "fits: 61.1"),
    # SFT: GRPO's update, with log-probabilities of up to 3,072 tokens of a sequence instead of 1,024: 6 x 3584 x 8,192
    # x 1.1 = 0.2 GB more for 4 at once
    ("sft", 24, 1, "does not fit: 25.2: set --per_device_train_batch_size 2 (21.1 GB)"),
    ("sft", 24, 2, "does not fit: 25.3: set --per_device_train_batch_size 2 (21.1 GB)"),
    ("sft", 24, 8, "fits: 19.0"),
    *[("sft", size, 1, "fits: 25.2") for size in (40, 80, 141)],
    *[("sft", size, 2, "fits: 25.3") for size in (40, 80, 141)],
    *[("sft", size, 8, "fits: 19.0") for size in (40, 80, 141)],
]


def said(report: Report, place: Place) -> str:
    """The verdict without what is the same in each."""
    line = verdict(report, place)
    assert line.count(" (estimate)") == 1 and "\n" not in line
    assert line.startswith(f"{report.answer}: ")
    return line.replace(" (estimate)", "").replace(f" of a GPU's {place.free / GB:.1f} GB", "")


@pytest.mark.parametrize(("run", "gigabytes", "gpus", "answer"), TRL)
def test_answers_for_grpo_and_sft(model, run, gigabytes, gpus, answer):
    config = str(ROOT / "configs" / ("sft.yaml" if run == "sft" else "grpo.yaml"))
    place = Place(gpus, 1, gigabytes * GB, gigabytes * GB)
    flags = ["--model_name_or_path", str(model), *(VLLM if run == "vllm" else ())]
    assert said(memory_report.report(config, flags, place), place) == answer


DAPO = [
    # dora, N GPUs. rollout: 0.8 of the GPU + 2. sync: 30.5 / N shards + 17.4 vLLM + 1.1 x 3.3 + 2: 53.5, 38.2, 26.8.
    # scoring: 30.5 / N + 2 + 1.1 x 15.7: 49.8, 34.6, 23.1; with half the tokens at once on 8, 14.5. With two GPUs to an
    # engine, the sync has 7.6 GB less: 45.9, 30.6, 19.2.
    ("dapo", 24, 1, f"does not fit: 53.5: set GPUS=8 and {TP_2} (23.1 GB, tight)"),
    ("dapo", 24, 2, f"does not fit: 38.2: set {TP_2} and GPUS=8 (23.1 GB, tight)"),
    (
        *("dapo", 24, 8),  # 21.2: the rollout's 19.2 + 2
        f"does not fit: 26.8: set actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu=6144 and {TP_2} (21.2 GB)",
    ),
    ("dapo", 40, 1, "does not fit: 53.5: set GPUS=4 (34.0 GB)"),  # sync 30.6
    ("dapo", 40, 2, f"tight: 38.2, less than 5% free; for more room set {TP_2} (34.6 GB)"),
    ("dapo", 40, 8, "fits: 34.0"),  # the rollout's 32 + 2
    *[("dapo", 80, gpus, "fits: 66.0") for gpus in (1, 2, 8)],  # 64 + 2
    *[("dapo", 141, gpus, "fits: 114.8") for gpus in (1, 2, 8)],
    # full: 16 P / N of weights, gradients and AdamW, and 1.1 x 4 P / N of torch's temporary: 155.4 / N + 2
    ("dapo_released", 24, 1, f"does not fit: 157.4: {NO_KEYS}"),
    ("dapo_released", 24, 2, f"does not fit: 79.7: {NO_KEYS}"),
    ("dapo_released", 24, 8, f"does not fit: 26.8: set {TP_2} and recode.adapter=dora (21.2 GB)"),  # sync
    ("dapo_released", 40, 1, "does not fit: 157.4: set GPUS=8 (34.0 GB)"),
    ("dapo_released", 40, 2, "does not fit: 79.7: set GPUS=8 (34.0 GB)"),
    ("dapo_released", 40, 8, "fits: 34.0"),
    ("dapo_released", 80, 1, "does not fit: 157.4: set GPUS=4 (66.0 GB)"),
    ("dapo_released", 80, 2, "tight: 79.7, less than 5% free; for more room set GPUS=4 (66.0 GB)"),
    ("dapo_released", 80, 8, "fits: 66.0"),
    ("dapo_released", 141, 1, "does not fit: 157.4: set GPUS=2 (114.8 GB)"),
    *[("dapo_released", 141, gpus, "fits: 114.8") for gpus in (2, 8)],
]


@pytest.mark.parametrize(("name", "gigabytes", "gpus", "answer"), DAPO)
def test_answers_for_dapo(model, name, gigabytes, gpus, answer):
    assert said(*dapo(model, name, gpus, gigabytes)) == answer


def test_every_gpu_and_number_of_them_has_an_answer():
    runs = ("grpo", "vllm", "sft", "dapo", "dapo_released")
    assert sorted(row[:3] for row in (*TRL, *DAPO)) == sorted(product(runs, (24, 40, 80, 141), (1, 2, 8)))


def test_more_memory_or_less_work_never_takes_more():
    run = grpo()
    peak = memory.estimate(SHAPE, run, 80 * GB).peak
    assert all(memory.estimate(SHAPE, other, 80 * GB).peak <= peak for _, other in memory.shorter(run))
    assert memory.estimate(SHAPE, replace(run, checkpointing=False), 80 * GB).peak > peak


# --- models and keys --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_type": "qwen3_moe", "num_experts": 128}, "a mixture of experts (num_experts) is not modelled"),
        ({"model_type": "phi3"}, "model_type phi3 is not modelled, only llama"),
        ({"quantization_config": {"bits": 4}}, "quantised weights are not modelled"),
    ],
)
def test_what_is_not_modelled_has_no_number(change, reason):
    with pytest.raises(NotModelled, match="7B: ") as error:
        shape_of(QWEN_7B | change, "7B")
    assert reason in str(error.value)


def test_a_config_without_a_size_is_named():
    keys = {key: value for key, value in QWEN_7B.items() if key != "intermediate_size"}
    with pytest.raises(InputError, match=r"7B: config\.json: intermediate_size: field required"):
        shape_of(keys, "7B")


def test_the_trainer_is_known_by_the_keys_or_by_name(tmp_path):
    assert memory_report.read_keys(str(ROOT / "configs" / "sft.yaml"), [])[0] == "sft"
    assert memory_report.read_keys(str(ROOT / "configs" / "grpo_dapo_loss.yaml"), [])[0] == "grpo"
    (tmp_path / "short.yaml").write_text("model_name_or_path: m\ndata: d\n", "utf-8")
    assert memory_report.read_keys(str(tmp_path / "short.yaml"), [])[0] == "sft"
    assert memory_report.read_keys(str(tmp_path / "short.yaml"), [], "grpo")[0] == "grpo"


def test_flags_win_and_are_strict(capsys):
    config = str(ROOT / "configs" / "grpo.yaml")
    _, keys = memory_report.read_keys(
        config, ["--lora_r=32", "--lora_target_modules", "q_proj", "k_proj", "--use_vllm"]
    )
    assert (keys["lora_r"], keys["lora_target_modules"], keys["use_vllm"]) == (32, ["q_proj", "k_proj"], True)
    _, keys = memory_report.read_keys(
        config, ["--max-steps", "9", "--no_gradient_checkpointing", "--beta=0.0"]
    )  # trl's own
    assert (keys["max_steps"], keys["gradient_checkpointing"], keys["beta"]) == (9, False, 0.0)
    for flags, line in (
        (["--lora_rank", "32"], "unknown key 'lora_rank': did you mean 'local_rank'?"),
        (["--lora_r", "many"], "argument --lora_r/--lora-r: invalid int value: 'many'"),
    ):
        with pytest.raises(SystemExit):
            memory_report.read_keys(config, flags)
        assert line in capsys.readouterr().err
    with pytest.raises(InputError, match="lora_r 0: must be"):
        memory_report.read_keys(config, ["--lora_r", "0"])
    _, keys = memory_report.read_keys(config, ["--optim", "adamw_torch_8bit"])
    with pytest.raises(NotModelled, match="optim adamw_torch_8bit is not modelled, only adamw_torch, adamw_torch_f"):
        memory_report.refuse(keys, 0)
    _, keys = memory_report.read_keys(config, ["--rollouts", "compiled"])
    with pytest.raises(NotModelled, match="rollouts compiled is not modelled, only auto and transformers"):
        memory_report.refuse(keys, 0)
    with pytest.raises(InputError, match="use_peft false with dtype bfloat16"):
        grpo("--use_peft", "false")
    with pytest.raises(InputError, match="8 sequences a step cannot be divided evenly among 3"):
        grpo(processes=3)
    with pytest.raises(InputError, match=r"^vllm_tensor_parallel_size 4: does not divide the 2 process"):
        grpo("--use_vllm", "true", "--vllm_tensor_parallel_size", "4", processes=2)


def test_gpu_types_by_nvidia_smi_s_names():
    names = {
        "NVIDIA H100 80GB HBM3": "H100",
        "NVIDIA H100 PCIe": "H100 PCIe",
        "NVIDIA A100-SXM4-40GB": "A100-SXM4-40GB",
        "NVIDIA A100-SXM4-80GB": "A100",
        "NVIDIA A100 80GB PCIe": "A100",
        "NVIDIA L4": "L4",
        "NVIDIA L40S": "L40S",
        "NVIDIA A10G": "A10G",
        "NVIDIA GeForce RTX 4090": "RTX 4090",
        "h200": "H200",
    }
    for name, kind in names.items():
        found = gpu_type(name)
        assert found is not None and found.name == kind, name
    assert gpu_type("NVIDIA A40") is None
    assert all(1e11 < kind.bandwidth < 1e13 < kind.flops < 1e16 for kind in GPU_TYPES)


# --- the program ------------------------------------------------------------------------------------------------------


def run(capsys, *words: object) -> tuple[int, str, str]:
    """(exit status, stdout, stderr) of the program."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["preflight.py", *map(str, words)])
        try:
            preflight.main()
            status = 0
        except SystemExit as error:
            status = int(error.code or 0)
    found = capsys.readouterr()
    return status, found.out, found.err


GRPO = ("--config", ROOT / "configs" / "grpo.yaml")


def test_the_page_shows_what_the_program_prints(capsys, model):
    """docs/hardware.md; only the model's name differs here."""
    page = (ROOT / "docs" / "hardware.md").read_text("utf-8")
    shown = page.split("## Preflight")[1].split("```text\n")[1].split("\n```")[0]
    flags = ("--gpus", 2, "--gpu-memory", 80, "--gpu", "H100", "--model_name_or_path", model)
    status, out, err = run(capsys, *GRPO, *flags)
    assert (status, err) == (0, "")
    assert out.replace(str(model), "Qwen/Qwen2.5-Coder-7B-Instruct").rstrip() == shown


@pytest.mark.parametrize("row", hardware_table.rows(), ids=str)
def test_the_table_of_the_page_is_what_preflight_reports(capsys, model, row):
    _, out, _ = run(capsys, *row.preflight(model), "--json")
    found = json.loads(out)
    assert found["problems"] == []
    estimate, seconds = found["report"]["estimate"], sum(part["seconds"] for part in found["report"]["parts"])
    totals = [sum(line["phases"].get(phase, 0) for line in estimate["lines"]) for phase in estimate["phases"]]
    gigabytes = f"{max(totals) / GB:.1f}" + (", tight" if found["report"]["answer"] == "tight" else "")
    assert row.estimates == (gigabytes, f"{seconds:.1f}", f"{seconds * 5000 / 3600:.1f}")


def test_the_memory_in_the_comments_of_the_vllm_config_is_preflight_s(capsys, model):
    config = (ROOT / "configs" / "grpo_vllm.yaml").read_text("utf-8")
    sleeping = ("--vllm_enable_sleep_mode", "true")
    for gigabytes, gpus, flags, place in (
        (80, 1, (), "1 GPU: 24.0 + 25.0 = "),
        (80, 2, (), "2: 24.0 + 25.1 = "),
        (80, 8, (), "8: 24.0 + 18.8 = "),
        (40, 8, ("--vllm_gpu_memory_utilization", "0.45"), "8 GPUs: 18.0 + 18.8 = "),
        (40, 1, ("--vllm_gpu_memory_utilization", "0.45", *sleeping), "vllm_enable_sleep_mode: true, "),
        (40, 2, ("--vllm_gpu_memory_utilization", "0.45", *sleeping), "vllm_enable_sleep_mode: true, 35.3 and "),
    ):
        words = ("--config", ROOT / "configs" / "grpo_vllm.yaml", "--gpus", gpus, "--gpu-memory", gigabytes, *flags)
        status, out, _ = run(capsys, *words, "--model_name_or_path", model)
        assert status == 0
        assert config.split(place)[1].startswith(re.search(r"^fits: ([\d.]+) of", out, re.MULTILINE)[1])


def dapo_numbers(model: Path, name: str) -> dict[str, float]:
    """GB of a run on 2 GPUs of 80 GB, by the rows of docs/hardware.md."""
    estimate = dapo(model, name, 2, 80)[0].estimate
    found = rows(estimate)
    state = 12 * P if name == "dapo_released" else 4 * P  # AdamW and weights, or weights, are offloaded
    ram = {"loading": 2 * 4 * P, "offloaded": state, "all": estimate.memory}
    ram["processes"] = ram["all"] - max(ram["loading"], ram["offloaded"])
    return {
        "peak": estimate.peak / GB,
        "rollout": estimate.total("rollout") / GB,
        "weights": found["weights, float32 shards"]["update"] / GB,
        "gradients": found["gradients"]["update"] / GB,
        "AdamW": found["AdamW"]["update"] / GB,
        "update": found["logits"]["update"] / GB,
        "scoring": found["logits"]["scoring"] / GB,
        **{kind: size / GB for kind, size in ram.items()},
        "disk": estimate.disk / GB,
    }


def squeezed(path: str) -> str:
    """A file in one line, without the marks of comments."""
    return re.sub(r"\s*\n#?\s*", " ", (ROOT / path).read_text("utf-8"))


def test_what_the_page_says_of_dapo_is_preflight_s(model):
    dora, full = dapo_numbers(model, "dapo"), dapo_numbers(model, "dapo_released")
    page = (ROOT / "docs" / "hardware.md").read_text("utf-8").split("## DAPO, 7B on 2 GPUs")[1]
    table = [
        [cell.strip() for cell in line.strip("|").split("|")[1:]] for line in page.splitlines() if line[:2] == "| "
    ]
    numbers = [tuple(tuple(re.findall(r"\d+\.\d", cell)) for cell in line) for line in table[1:]]
    keys = [["peak"], ["rollout"], ["weights"], ["gradients"], ["AdamW"], ["update"], ["scoring"]]
    expected = [tuple(tuple(f"{one[key]:.1f}" for key in row) for one in (dora, full)) for row in keys]
    expected.append(
        (
            tuple(f"{dora[key]:.1f}" for key in ("all", "loading", "processes")),
            tuple(f"{full[key]:.1f}" for key in ("all", "offloaded", "processes")),
        )
    )
    expected.append(((f"{4 * P / GB:.1f}",), (f"{8 * P / GB:.1f}",)))  # the weights in float32, once or twice
    expected.append(((f"{dora['disk']:.1f}",), (f"{full['disk']:.1f}",)))
    assert numbers == expected


def test_what_the_dapo_configs_say_of_memory_is_preflight_s(model):
    from verl_training import memory as verl_memory

    dora, full = dapo_numbers(model, "dapo"), dapo_numbers(model, "dapo_released")
    text = squeezed("configs/dapo.yaml")
    assert f"an estimated {dora['all']:.1f} GB of RAM: {dora['loading']:.1f} GB while the float32 weights" in text
    assert f"sharded, {dora['processes']:.1f} GB for the processes, of which 0.7 GB for each of 25 helpers" in text
    assert verl_memory.HELPER == 0.7 * GB and verl_memory.HELPERS + 8 + 8 + 4 == 25
    assert f"assumes {verl_memory.MASK} times" in text
    text = squeezed("configs/dapo_released.yaml")
    assert f"an estimated {full['peak']:.1f} GB" in text
    assert f"{full['all']:.1f} GB of RAM ({full['offloaded']:.1f} GB of offloaded weights and Adam state, " in text
    assert f"{full['processes']:.1f} GB for the processes) and {full['disk']:.1f} GB of disk " in text
    assert f"3 x {full['disk'] / 3:.1f} GB" in text and f"up to {full['disk']:.1f} GB more" in text


def test_what_the_other_pages_say_of_memory_is_preflight_s():
    linear, eight = grpo("--lora_target_modules", "all-linear"), grpo(processes=8)
    copies = [rows(memory.estimate(SHAPE, one, 80 * GB))["merge: copies of targets"] for one in (eight, linear)]
    merged, all_merged = (one["rollout"] / GB for one in copies)
    for config in ("grpo", "grpo_vllm"):
        text = squeezed(f"configs/{config}.yaml")
        assert f"at 7B {merged:.1f} GB, all-linear {all_merged:.0f} GB" in text
        assert f"({12 * A / 1e6:.0f} MB each at 7B: {50 * 12 * A / GB:.0f} GB)" in text
    assert f"one for each epoch, {12 * A / 1e6:.0f} MB each" in squeezed("configs/sft.yaml")
    assert f"at 7B its merged rollouts hold {all_merged:.0f} GB of copies" in squeezed("docs/grpo.md")
    page = squeezed("docs/hardware.md")
    ram, disk = memory.estimate(SHAPE, eight, 80 * GB).memory, memory.estimate(SHAPE, eight, 80 * GB).disk
    assert f"{2 * P / GB:.0f} GB for each GPU, and {memory.PROCESS / GB:.0f} for its process (assumed): " in page
    assert f"(assumed): {ram / GB:.0f} GB for 8." in page
    assert f"a checkpoint is {12 * A / 1e6:.0f} MB: {disk / GB:.0f} GB for the 50 of GRPO." in page
    whole = ("--use_peft", "false")
    kept = memory.estimate(SHAPE, grpo(*whole, processes=4, zero=2), 80 * GB).disk - 2 * P
    two = memory.estimate(SHAPE, grpo(*whole, "--save_total_limit", "2", processes=4, zero=2), 80 * GB).disk
    assert f"a checkpoint of GRPO is {kept / 50 / GB:.0f} GB with the optimizer." in page
    assert f"keeps all 50: {kept / 1e12:.1f} TB." in page and f"as above ({two / GB:.0f} GB: two," in page
    assert f"{two / GB:.0f} GB of disk" in squeezed("docs/grpo.md")
    small = memory.estimate(SHAPE, grpo("--per_device_train_batch_size", "2"), 24 * GB).peak
    assert f"The weights take {2 * P / GB:.0f} GB in bf16" in page and f"estimates {small / GB:.1f} GB with" in page
    assert f"Gradients of DoRA are {4 * A / 1e6:.0f} MB a step; with all weights they are {2 * P / GB:.0f} GB" in page
    vllm = ("--use_vllm", "true", "--vllm_max_model_length", "3072")
    asleep = grpo(*vllm, "--vllm_gpu_memory_utilization", "0.45", "--vllm_enable_sleep_mode", "true")
    awake = memory.estimate(SHAPE, grpo(*vllm), 80 * GB).peak / GB
    assert f"{awake:.1f} GB of 80, or {memory.estimate(SHAPE, asleep, 40 * GB).peak / GB:.1f} GB of 40" in page
    assert f"with transformers {SHAPE.layers * step_time.FORWARD * step_time.LAUNCH * 1000:.0f} ms a token" in page


def test_a_run_that_does_not_fit_ends_in_one_line(capsys, model):
    status, _, err = run(capsys, *GRPO, "--gpus", 1, "--gpu-memory", 24, "--model_name_or_path", model)
    line = "does not fit: 25.0 of a GPU's 24.0 GB (estimate): set --per_device_train_batch_size 2 (21.5 GB)"
    assert (status, err) == (2, f"preflight: {line}\n")
    again = run(
        capsys,
        *GRPO,
        "--gpus",
        1,
        "--gpu-memory",
        24,
        "--model_name_or_path",
        model,
        "--per_device_train_batch_size",
        2,
    )
    assert again[0] == 0 and "fits: 21.5 of a GPU's 24.0 GB" in again[1]


def test_too_little_ram_and_too_few_cpus(capsys, model):
    described = ("--gpus", 2, "--gpu-memory", 80, "--cpus", 8, "--ram", 64)
    words = ("--config", ROOT / "configs" / "dapo.yaml", *described, f"actor_rollout_ref.model.path={model}")
    status, _, err = run(capsys, *words)
    assert status == 2
    assert err.startswith("preflight: 8 CPUs: needs 9, or Ray waits forever; RAM: 64.0 GB available, needs about 94")


def test_this_node_with_a_busy_gpu(capsys, model, monkeypatch, tmp_path):
    """nvidia-smi is a script here. Free memory decides: 20,000 MiB are 21.0 GB."""
    fake_smi(tmp_path, monkeypatch, SMI.replace("40000", "20000"), "GPU-bb, 4242, /opt/vllm, 61000\n")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(node, "memory", lambda: 500 * GB)
    monkeypatch.setattr(node_checks, "free_space", lambda folder: (500 * GB, 1))
    status, out, err = run(capsys, *GRPO, "--model_name_or_path", model)
    assert "  ok  GPU 1: 21.0 GB free; used by vllm (pid 4242, 61000 MiB)" in out
    assert "time of a step on H100" in out and "  ok  RAM: 500.0 GB available (needs about 38.5 GB)" in out
    remedy = "set --per_device_train_batch_size 1 (19.5 GB)"  # with 2, 20.9 GB: tight
    assert status == 2 and f"does not fit: 25.1 of a GPU's 21.0 GB (estimate): {remedy}" in err
    alone = run(capsys, *GRPO, "--model_name_or_path", model, "--gpus", 1)  # the first is free
    assert "fits: 25.0 of a GPU's 84.9 GB" in alone[1]
    assert "--gpus 4: this machine shows 2; add --gpu-memory" in run(capsys, *GRPO, "--gpus", 4)[2]


def test_json(capsys, model):
    flags = ("--gpus", 1, "--gpu-memory", 24, "--model_name_or_path", model, "--json")
    status, out, _ = run(capsys, *GRPO, *flags)
    found = json.loads(out)
    assert status == 2 and found["report"]["answer"] == "does not fit"
    assert found["report"]["change"]["setting"] == "--per_device_train_batch_size 2"
    assert found["problems"] == [found["answer"]]


def test_a_model_that_is_not_modelled_is_no_objection(capsys, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3_moe", "num_experts": 8}), "utf-8")
    status, out, _ = run(capsys, *GRPO, "--gpus", 1, "--gpu-memory", 24, "--model_name_or_path", tmp_path)
    assert status == 0 and "memory and time: not modelled: " in out.splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--gpu-memory", 80), "--gpu-memory describes another node: add --gpus"),
        (("--cpus", 8), "--cpus and --ram describe another node: add --gpu-memory"),
        (("--lora_r", 8), "--lora_r: name a configuration with --config"),
        (("--config", "nowhere.yaml", "--gpus", 1, "--gpu-memory", 8), "nowhere.yaml: no such file"),
        (("--config", Path(sys.executable), "--gpus", 1, "--gpu-memory", 8), f"{sys.executable}: not UTF-8: "),
        ((*GRPO, "--gpus", 1, "--gpu-memory", 8, "--gpu", "H900"), "--gpu H900: choose from B200, H200"),
        (
            (*GRPO, "--gpus", 1, "--gpu-memory", 8, "--accelerate", "zero9"),
            "configs/accelerate/zero9.yaml does not exist: choose from ddp zero2",
        ),
        (("--gpus", 1, "--gpu-memory", 81559), "--gpu-memory: 81559 is not above 0 and at most 1000"),  # MiB
        (
            (*GRPO, "--gpus", 2, "--gpu-memory", 80, "--load_in_4bit", "true"),
            "load_in_4bit: not supported here",
        ),
    ],
)
def test_mistakes_end_in_one_line(capsys, flags, line):
    status, _, err = run(capsys, *flags)
    assert status == 2 and line in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ([], "config.json: input should be a valid dictionary"),
        (
            QWEN_7B | {"num_hidden_layers": "28"},
            "cannot be loaded: Validation error for field 'num_hidden",
        ),
        (QWEN_7B | {"vocab_size": None}, "cannot be loaded: Validation error for field 'vocab_size'"),
        (QWEN_7B | {"hidden_size": -1}, "config.json: hidden_size: input should be greater than 0"),
        (QWEN_7B | {"num_key_value_heads": 0}, "config.json: num_key_value_heads: input should be greater than 0"),
    ],
)
def test_a_config_of_a_model_that_is_broken(capsys, tmp_path, config, line):
    (tmp_path / "config.json").write_text(json.dumps(config))
    status, _, err = run(capsys, *GRPO, "--gpus", 1, "--gpu-memory", 80, "--model_name_or_path", tmp_path)
    assert status == 2 and line in err and err.count("\n") == 1


def test_the_described_nodes_are_those_of_the_dapo_overrides(capsys, model):
    pytest.importorskip("hydra", reason="requirements/dapo.txt is not installed")
    words = ("--config", "configs/dapo.yaml", "--gpus", 2, "--gpu-memory", 80)
    words += (f"actor_rollout_ref.model.path={model}",)
    for override, line in (
        ("trainer.n_gpus_per_node=4", "trainer.n_gpus_per_node=4: the node has 2 GPU(s)"),
        ("trainer.nnodes=2", "trainer.nnodes=2, but --nodes is 1: leave one of them out"),
    ):
        status, _, err = run(capsys, *words, override)
        assert (status, err) == (2, f"preflight: {line}\n")
    assert run(capsys, *words, "--nodes", 2, "trainer.nnodes=2")[0] == 0


def test_an_unreachable_model_is_one_line(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    words = (*GRPO, "--gpus", 1, "--gpu-memory", 80, "--model_name_or_path", "nobody/nothing-at-all")
    status, _, err = run(capsys, *words)
    assert status == 2 and err.count("\n") == 1
    assert "model nobody/nothing-at-all: cannot be loaded: " in err


def test_the_node_is_checked_without_any_package(tmp_path):
    """Without site-packages, as before an installation: the node alone, and what would be needed for more."""
    words = ["--config", "configs/grpo.yaml", "--gpus", "2", "--gpu-memory", "80", "--cpus", "16"]
    command = [sys.executable, "-S", "-s", "-E", str(ROOT / "src" / "preflight.py"), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "  ok  GPUs: 2 x GPU, 80.0 GB (described)" in done.stdout
    assert "trl is not installed: pip install -r requirements.txt" in done.stdout
    alone = subprocess.run([*command[:5]], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert alone.returncode in (0, 2) and "Traceback" not in alone.stderr
    assert "Python: " in alone.stdout and "C compiler, Python headers: " in alone.stdout


def test_the_disk_of_checkpoints():
    """All weights under ZeRO-2: 2 P + 2 P of weights (transformers' file and DeepSpeed's) + 12 P of optimizer."""
    run = grpo("--use_peft", "false", processes=4, zero=2)
    assert memory.estimate(SHAPE, run, 80 * GB).disk == 50 * 16 * P + 2 * P
    run = grpo("--use_peft", "false", "--save_total_limit", "2", processes=4, zero=2)
    assert memory.estimate(SHAPE, run, 80 * GB).disk == 3 * 16 * P + 2 * P  # the third is written before one is deleted


@pytest.mark.parametrize(
    ("flags", "count"),
    [
        (("--max_steps", "250"), 3),  # the last step is saved too
        (("--max_steps", "50"), 1),
        (("--save_steps", "0.25"), 4),
        (("--save_strategy", "epoch", "--num_train_epochs", "2.5"), 3),
        (("--save_strategy", "no"), 0),
        (("--save_total_limit", "2"), 3),  # the third is written before one is deleted
    ],
)
def test_how_many_checkpoints_are_on_disk(flags, count):
    assert grpo(*flags).checkpoints == count


def test_checkpoints_that_are_there_need_no_new_space(tmp_path):
    (tmp_path / "checkpoint-100" / "deep").mkdir(parents=True)
    (tmp_path / "checkpoint-100" / "deep" / "a").write_bytes(b"x" * 700)
    (tmp_path / "checkpoint-100" / "b").write_bytes(b"x" * 300)
    (tmp_path / "metrics.jsonl").write_bytes(b"x" * 50)
    assert preflight.size_of(tmp_path) == 1000
    assert preflight.size_of(tmp_path / "absent") == 0
