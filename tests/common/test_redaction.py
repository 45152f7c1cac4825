"""What is hidden in messages and in the files of a run, and what is not."""

from __future__ import annotations

import json
import shlex

import pytest

from common.redaction import command_line, hider, is_unmistakable, recorded, secrets_of, without_logins


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:pass@host:1/v1", "http://***@host:1/v1"),
        ("x HTTPS://token@host and http://a:b@c@d/e?f=g@h", "x HTTPS://***@host and http://***@d/e?f=g@h"),
        ("socks5://u:secret@host:1 s3://id:key@bucket", "socks5://***@host:1 s3://***@bucket"),
        ("https://host/@user mail me@host", "https://host/@user mail me@host"),
        ("https://host/x.jsonl?a=b&token=SECRET&v=1#top", "https://host/x.jsonl?a=b&token=***&v=1#top"),
        ("no http://host/v1?api-key=SECRET here", "no http://host/v1?api-key=*** here"),
        (
            "s3://b/x?X-Amz-Credential=SECRET&X-Amz-Signature=SECRET",
            "s3://b/x?X-Amz-Credential=***&X-Amz-Signature=***",
        ),
        ("http://h/?sig=SECRET&key=SECRET&keys=a&tokens=3", "http://h/?sig=***&key=***&keys=a&tokens=3"),
        ("hf://datasets/OWNER/NAME@main/x.jsonl", "hf://datasets/OWNER/NAME@main/x.jsonl"),
    ],
)
def test_the_login_of_a_url(text, shown):
    assert without_logins(text) == shown


def test_the_secrets_of_a_command():
    words = ["python", "grpo.py", "--hub_token", "hf_1", "--push-to-hub-token=hf_2", "trainer.api_key=k"]
    words += ["--eos_token", "<|im_end|>", "--url", "http://me:pass@host/v1"]
    assert command_line(words) == (
        "python grpo.py --hub_token '***' '--push-to-hub-token=***' 'trainer.api_key=***' "
        "--eos_token '<|im_end|>' --url 'http://***@host/v1'"
    )


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ('{"token": "SECRET", "dtype": "auto"}', '{"token": "***", "dtype": "auto"}'),
        (
            '--kwargs={"hub_token":"SE\\"CRET,}","a":{"api_key":"SECRET"}}',
            '--kwargs={"hub_token":"***","a":{"api_key":"***"}}',
        ),
        ("+model.kwargs={token: SECRET, eos_token: </s>}", "+model.kwargs={token: ***, eos_token: </s>}"),
        ("{'password': 'SECRET', 'n': 1}", "{'password': '***', 'n': 1}"),
        (r'{"inner": "{\"token\": \"SECRET\"}"}', r'{"inner": "{\"token\": \"***\"}"}'),
        ('{"url": "http://me:SECRET@h/?token=SECRET"}', '{"url": "http://***@h/?token=***"}'),
        ('{"pad_token": "<pad>", "tokens": 3}', '{"pad_token": "<pad>", "tokens": 3}'),
    ],
)
def test_the_secrets_in_a_mapping_and_in_a_url(word, shown):
    assert command_line(["--x", word]) == shlex.join(["--x", shown])
    assert recorded({"x": word}) == {"x": shown}


@pytest.mark.parametrize("word", ["--hf_token", "--token"])
def test_the_token_of_a_hub(word):
    assert command_line([word, "hf_1", f"{word}=hf_2", "HF_TOKEN=hf_3"]) == f"{word} '***' '{word}=***' 'HF_TOKEN=***'"


def test_the_secrets_of_a_configuration():
    config = {"hub_token": "hf_1", "eos_token": "</s>", "lr": 1e-4, "a": {"api_key": "k", "urls": ["http://u:p@h/"]}}
    assert recorded(config) == {
        "hub_token": "***",
        "eos_token": "</s>",
        "lr": 1e-4,
        "a": {"api_key": "***", "urls": ["http://***@h/"]},
    }
    assert recorded({"hub_token": None}) == {"hub_token": None}
    ray = {"runtime_env": {"env_vars": {"HF_TOKEN": "hf_1", "WANDB_API_KEY": "w", "TOKENIZERS_PARALLELISM": "false"}}}
    hidden = {"HF_TOKEN": "***", "WANDB_API_KEY": "***", "TOKENIZERS_PARALLELISM": "false"}
    assert recorded(ray) == {"runtime_env": {"env_vars": hidden}}


def test_every_spelling_of_a_secret():
    key = 'sk-a/b"c'
    hide = hider(secrets_of(key, "http://me:p%40ss-word@host/v1"))
    for echo in (key, json.dumps(key), json.dumps(key).replace("/", "\\/"), "sk-a%2Fb%22c", "p%40ss-word", "p@ss-word"):
        assert hide(f"bad key: {echo}.").replace('"', "") == "bad key: ***."
    assert hide("Basic bWU6cEBzcy13b3Jk") == "Basic ***"  # printf me:p@ss-word | base64
    assert hide("unrelated") == "unrelated"


def test_a_short_key_is_a_whole_word_and_no_answer_loses_one():
    assert hider(secrets_of("no", "http://host"))("no, Bearer no: nothing known") == "***, Bearer ***: nothing known"
    assert [is_unmistakable(key) for key in ("x", "EMPTY", "password", "sk-SECRET")] == [False, False, False, True]
