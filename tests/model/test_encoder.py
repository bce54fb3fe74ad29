"""Which weights are prunable, and what loading keeps, draws anew and refuses."""

from __future__ import annotations

import inspect
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import BertTokenizer

from obert_sweeps.model.base import Encoder
from obert_sweeps.model.bert import Bert
from obert_sweeps.model.check import check_checkpoint, checkpoint_files
from obert_sweeps.model.mobilebert import MobileBert
from obert_sweeps.schema import RequestError, StageError

TINY = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 32,
}
TINY_MOBILE = {
    **TINY,
    "intra_bottleneck_size": 16,
    "embedding_size": 16,
    "num_feedforward_networks": 2,
}
LEAVES = {"bert_base": 84_934_656, "bert_large": 301_989_888, "mobilebert": 20_054_016}


def tiny(**more: object) -> Bert:
    return Bert(name="tiny", from_config=True, config=TINY, **more)  # type: ignore[arg-type]


def leaf(root: Path, name: str) -> tuple[type[Encoder], dict]:
    keys = yaml.safe_load((root / f"conf/model/{name}.yaml").read_text())
    keys.pop("note")
    classes = {f"{c.__module__}.{c.__name__}": c for c in (Bert, MobileBert)}
    return classes[keys.pop("_target_")], keys


def checkpoint(folder: Path, head: str = "mlm", num_labels: int = 2, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    model = tiny().build(head, num_labels)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", LEAVES)
def test_prunable_weights_are_those_of_the_document(project_root: Path, name: str) -> None:
    make, keys = leaf(project_root, name)
    encoder = make(**{**keys, "hub": None, "from_config": True})
    with torch.device("meta"):
        model = encoder.build("classification", 2)
    layers = encoder.prunable(model)
    assert sum(layer.weight.numel() for layer in layers.values()) == LEAVES[name]
    modules = dict(model.named_modules())
    assert all(modules[n] is layer for n, layer in layers.items())
    assert model.config._attn_implementation == "sdpa"


def test_fourteen_layers_of_mobilebert(project_root: Path) -> None:
    make, keys = leaf(project_root, "mobilebert")
    encoder = make(**{**keys, "hub": None, "from_config": True})
    with torch.device("meta"):
        model = encoder.build("span", 2, layers=14)
    assert sum(x.weight.numel() for x in encoder.prunable(model).values()) == 11_698_176


@pytest.mark.parametrize("name", LEAVES)
def test_each_leaf_lists_exactly_the_keys_of_its_class(project_root: Path, name: str) -> None:
    make, keys = leaf(project_root, name)
    assert set(keys) == set(inspect.signature(make).parameters)
    assert keys["name"] == name


def test_names_are_the_same_under_every_head() -> None:
    names = {
        head: list(tiny().prunable(tiny().build(head, 2)))
        for head in ("classification", "regression", "span", "mlm")
    }
    assert len({tuple(n) for n in names.values()}) == 1
    assert names["mlm"][0] == "bert.encoder.layer.0.attention.self.query"
    assert len(names["mlm"]) == 18


def test_nothing_but_large_matrices_of_the_encoder_is_prunable() -> None:
    encoder = MobileBert(name="tiny", from_config=True, config=TINY_MOBILE)
    model = encoder.build("classification", 2)
    layers = set(map(id, encoder.prunable(model).values()))
    rest = {
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and id(module) not in layers
    }
    assert rest == {
        "mobilebert.embeddings.embedding_transformation",
        "mobilebert.pooler.dense",
        "classifier",
    }


def test_further_linear_layers_are_prunable_by_name() -> None:
    model = tiny().build("classification", 2)
    layers = tiny().prunable(model, ["pooler.dense"])
    assert list(layers)[:-1] == list(tiny().prunable(model))
    assert layers["bert.pooler.dense"] is model.bert.pooler.dense
    with pytest.raises(StageError, match=r"poler.*bert\.pooler\.dense, classifier"):
        tiny().prunable(model, ["poler"])
    span = tiny().build("span", 2)  # has no pooler
    assert list(tiny().prunable(span, ["pooler.dense"])) == list(tiny().prunable(span))


def test_a_masked_language_model_can_carry_a_pooler(tmp_path: Path) -> None:
    """Loaded where the source has one, drawn where not, and there for a classifier again."""
    classifier = load_file(checkpoint(tmp_path / "a", "classification") / "model.safetensors")
    carried = tiny().build("mlm", 0, folder=str(tmp_path / "a"), pooler=True)
    word = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(carried.bert.pooler.dense.weight, classifier["bert.pooler.dense.weight"])
    assert torch.equal(carried.get_parameter(word), classifier[word])
    assert carried.cls.predictions.decoder.weight is carried.get_parameter(word)
    assert tiny().build("mlm", 0, folder=str(tmp_path / "a")).bert.pooler is None
    carried.save_pretrained(tmp_path / "b")
    assert json.loads((tmp_path / "b/config.json").read_text())["architectures"] == [
        "BertForMaskedLM"
    ]
    again = tiny().build("classification", 2, folder=str(tmp_path / "b"))
    assert torch.equal(again.bert.pooler.dense.weight, classifier["bert.pooler.dense.weight"])
    without = str(checkpoint(tmp_path / "c"))
    torch.manual_seed(5)
    drawn = tiny().build("mlm", 0, folder=without, pooler=True).bert.pooler.dense.weight
    torch.manual_seed(5)
    again = tiny().build("mlm", 0, folder=without, pooler=True).bert.pooler.dense.weight
    assert torch.equal(drawn, again) and 0.015 < float(drawn.detach().std()) < 0.025


def test_from_nothing_is_seeded_and_takes_the_tokenizers_size() -> None:
    models = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        models.append(tiny().build("classification", 3, vocab_size=57).state_dict())
    word = "bert.embeddings.word_embeddings.weight"
    assert models[0][word].shape == (57, 32)
    assert models[0]["classifier.weight"].shape == (3, 32)
    assert all(torch.equal(models[0][k], models[1][k]) for k in models[0])
    assert not torch.equal(models[0][word], models[2][word])


def test_another_head_keeps_the_encoder_and_is_drawn_from_the_seed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    saved = load_file(checkpoint(tmp_path / "model") / "model.safetensors")
    heads = []
    for _ in range(2):
        torch.manual_seed(5)
        model = tiny().build("classification", 3, vocab_size=40, folder=str(tmp_path / "model"))
        heads.append(model.classifier.weight.detach().clone())
    state = model.state_dict()
    encoder = [k for k in saved if k.startswith("bert.")]
    assert len(encoder) > 40
    assert all(torch.equal(state[k], saved[k]) for k in encoder)
    assert torch.equal(*heads) and heads[0].std() > 0
    assert model.training
    said = capfd.readouterr()
    assert "classifier" not in said.out + said.err  # transformers' warning of a new head


def test_the_same_head_is_kept_or_renewed_on_request(tmp_path: Path) -> None:
    checkpoint(tmp_path / "model", "classification", 3)
    saved = load_file(tmp_path / "model/model.safetensors")
    folder = str(tmp_path / "model")
    kept = tiny().build("classification", 3, folder=folder).state_dict()
    assert all(torch.equal(kept[k], saved[k]) for k in saved)
    torch.manual_seed(9)
    renewed = tiny().build("classification", 3, folder=folder, new_head=True).state_dict()
    changed = {k for k in saved if not torch.equal(renewed[k], saved[k])}
    assert changed == {"classifier.weight"}  # its bias is zero before and after
    assert renewed["classifier.weight"].std() == pytest.approx(0.02, rel=0.3)


def test_a_source_without_the_head_is_refused_where_no_new_one_may_be_drawn(tmp_path: Path) -> None:
    """A teacher's must be its own."""
    folder = str(checkpoint(tmp_path / "model", "mlm"))
    assert tiny().build("classification", 2, folder=folder).classifier.weight.any()
    with pytest.raises(StageError, match=r"lacks .*classifier\.bias"):
        tiny().build("classification", 2, folder=folder, new_head=False)


def test_half_precision_without_mlm_head_gets_one_tied_to_the_embeddings(tmp_path: Path) -> None:
    checkpoint(tmp_path / "model", "classification")
    file = tmp_path / "model/model.safetensors"
    halves = {
        k.removeprefix("bert."): v.half()
        for k, v in load_file(file).items()
        if k.startswith("bert.")
    }
    save_file(halves, file, metadata={"format": "pt"})
    model = Bert(name="half", path=str(tmp_path / "model")).build("mlm", 0)
    embeddings = model.bert.embeddings.word_embeddings.weight
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert model.cls.predictions.decoder.weight is embeddings
    assert torch.equal(embeddings, halves["embeddings.word_embeddings.weight"].float())


def test_models_loaded_by_several_threads_leave_later_ones_tied(tmp_path: Path) -> None:
    encoder = Bert(name="tiny", path=str(checkpoint(tmp_path)))

    def load() -> None:
        for _ in range(5):
            encoder.build("classification", 2)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    model = tiny().build("mlm", 0)
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight


def test_dropped_layers_stay_dropped_when_saved_and_loaded(tmp_path: Path) -> None:
    checkpoint(tmp_path / "model")
    model = tiny().build("span", 2, folder=str(tmp_path / "model"), layers=2)
    assert len(tiny().prunable(model)) == 12
    whole = tiny().build("span", 2, folder=str(tmp_path / "model"))
    for i in (0, 1):  # the first are kept
        kept, was = (m.bert.encoder.layer[i].output.dense.weight for m in (model, whole))
        assert torch.equal(kept, was)
    model.save_pretrained(tmp_path / "short")
    again = tiny().build("span", 2, folder=str(tmp_path / "short"))
    assert again.config.num_hidden_layers == 2 and len(again.bert.encoder.layer) == 2
    before = model.state_dict()
    assert all(torch.equal(before[k], v) for k, v in again.state_dict().items())
    ids = torch.arange(8).view(1, 8)
    assert torch.equal(
        model.eval()(input_ids=ids).start_logits, again.eval()(input_ids=ids).start_logits
    )
    for keep in (0, 4):
        with pytest.raises(StageError, match="has 3 layers"):
            tiny().build("span", 2, layers=keep)


def test_encoder_weights_that_are_missing_are_refused(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model")
    file = folder / "model.safetensors"
    state = load_file(file)
    del state["bert.encoder.layer.1.output.dense.weight"]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(StageError, match=r"lacks 1 .*layer.1.output.dense.weight"):
        tiny().build("mlm", 2, folder=str(folder))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 50}))
    with pytest.raises(StageError, match="word_embeddings"):
        tiny().build("mlm", 2, folder=str(folder))


def test_a_tokenizer_of_another_checkpoint_is_refused(tmp_path: Path) -> None:
    folder = str(checkpoint(tmp_path / "model"))
    with pytest.raises(StageError, match="embeddings for 40 tokens and the tokenizer gives 41"):
        tiny().build("mlm", 2, vocab_size=41, folder=folder)


def test_a_checkpoint_of_the_other_kind_is_refused(tmp_path: Path) -> None:
    folder = str(checkpoint(tmp_path / "model"))
    with pytest.raises(StageError, match="holds a bert model"):
        MobileBert(name="m", path=folder).build("mlm", 2)


def test_tokenizers_come_from_the_folder(tmp_path: Path) -> None:
    assert tiny().tokenizer() is None
    folder = checkpoint(tmp_path / "model")
    with pytest.raises(StageError, match=r"tokenizer\.json"):
        Bert(name="t", path=str(tmp_path)).tokenizer()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "film", "##s"]
    BertTokenizer(vocab={w: i for i, w in enumerate(words)}).save_pretrained(folder)
    tokenizer = tiny().tokenizer(str(folder))
    assert tokenizer is not None and len(tokenizer) == 8
    given = tokenizer("Good films", "film")
    assert given["input_ids"] == [2, 5, 6, 7, 3, 6, 3]
    assert given["token_type_ids"] == [0, 0, 0, 0, 0, 1, 1]


def test_nothing_to_start_from_is_refused() -> None:
    with pytest.raises(RequestError, match=r"model\.path=DIR"):
        Bert(name="bert_base", config=TINY)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: shutil.rmtree(f), "no model folder"),
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be read"),
        (lambda f: (f / "config.json").write_text('{"model_type": "gpt2"}'), "'gpt2'"),
        (lambda f: (f / "config.json").write_text('{"model_type": "bert"}'), "does not say"),
        (lambda f: (f / "model.safetensors").unlink(), "has no weights"),
        (
            lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
            "pytorch_model.bin is not read",
        ),
    ],
)
def test_a_folder_that_is_no_checkpoint(tmp_path: Path, damage, message: str) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "model"
    checkpoint(folder)
    assert check_checkpoint(str(folder))["hidden_size"] == 32
    damage(folder)
    with pytest.raises(RequestError, match=message):
        check_checkpoint(str(folder))
    with pytest.raises(RequestError, match=message):
        Bert(name="tiny", path=str(folder)).build("mlm", 2)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f.write_bytes(f.read_bytes()[:-1]), "damaged or cut off"),
        (lambda f: f.write_bytes(f.read_bytes()[:40]), "damaged or cut off"),
        (lambda f: f.write_bytes(b"\xff" * 60), "damaged or cut off"),
        (lambda f: f.write_bytes(b""), "damaged or cut off"),
        (lambda f: (f.parent / "tokenizer.json").unlink(), "has no tokenizer"),
    ],
)
def test_what_a_stage_would_stumble_over_is_found_in_the_folder(
    tmp_path: Path, damage: Any, message: str
) -> None:
    folder = tmp_path / "model"
    checkpoint(folder)
    (folder / "tokenizer.json").write_text("{}")
    names = [file.name for file in checkpoint_files(str(folder))]
    assert names == ["config.json", "tokenizer.json", "model.safetensors"]
    damage(folder / "model.safetensors")
    with pytest.raises(RequestError, match=message):
        checkpoint_files(str(folder))


@pytest.mark.shared
def test_a_real_checkpoint_in_half_precision(shared_dir: Path) -> None:
    encoder = Bert(name="minilm", path=str(shared_dir / "models/minilm-l6"))
    model = encoder.build("span", 2)
    layers = encoder.prunable(model)
    assert sum(x.weight.numel() for x in layers.values()) == 6 * (4 * 384**2 + 2 * 384 * 1536)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert encoder.tokenizer()("a", "b")["token_type_ids"] == [0, 0, 0, 1, 1]  # type: ignore[misc]
