"""Tests of a classifier's collators: inputs as the processor's own, pictures shared, targets, cuts, drops, draws."""

from __future__ import annotations

import json
import pickle
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import ViltProcessor

from tests.support.class_cases import asked, picture, vilt_processor
from vlm_lit.data.answers.targets import AnswerTargets
from vlm_lit.data.answers.vocabulary import AnswerVocabulary
from vlm_lit.data.checking.ahead import checked_ahead
from vlm_lit.data.checking.examined import Uses
from vlm_lit.data.images.images import load_image, load_images
from vlm_lit.data.images.rand_augment import AugmentSettings, rand_augment
from vlm_lit.data.of_step import OfStep
from vlm_lit.data.records.conversation_dataset import ConversationDataset, open_source
from vlm_lit.data.records.sources import SourceSettings
from vlm_lit.data.rows import class_encoding
from vlm_lit.data.rows.class_collate import ClassCollator, ClassPromptCollator
from vlm_lit.data.rows.class_encoding import ClassEncoder, question_of
from vlm_lit.data.rows.device import to_device
from vlm_lit.data.rows.micro_batch_size import MicroBatchSize
from vlm_lit.data.sampler import derive_seed
from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.schema import ClassBatch, Conversation, EvaluationBatch, ImageRef, StepBatch

VOCABULARY = AnswerVocabulary(("red", "blue", "2"), normalized=True)
VILT = AnswerTargets(VOCABULARY, "vilt")
SIZES = {"wide": (90, 60), "tall": (60, 90), "square": (70, 70)}
TWO = AugmentSettings(operations=2)


@pytest.fixture(scope="module")
def processor() -> ViltProcessor:
    return vilt_processor()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pictures")
    return {name: picture(folder, name, size) for name, size in SIZES.items()}


@pytest.fixture(scope="module")
def questions(pictures: dict[str, Path]) -> list[Conversation]:
    """Six questions about three pictures, of different lengths; the last one's answer is in no vocabulary."""
    names = ["wide", "tall", "wide", "square", "tall", "square"]
    answers = [["red"] * 10, ["red"] * 3 + ["blue"] * 7, ["two"] * 10, ["2"] * 2 + ["red"] * 8, ["blue"] * 10, ["no"]]
    return [
        asked(f"q{i}", pictures[name], "what colour is the lamp" + " of the tool" * i + "?", answers=given)
        for i, (name, given) in enumerate(zip(names, answers, strict=True))
    ]


def collated(collator: ClassCollator, questions: list[Conversation]) -> StepBatch[ClassBatch]:
    found = collator(questions)
    assert isinstance(found, StepBatch), found
    return found


def answered(collator: ClassPromptCollator, questions: list[Conversation]) -> EvaluationBatch:
    found = collator(questions)
    assert isinstance(found, EvaluationBatch), found
    return found


def pixels_of(step_batch: StepBatch[ClassBatch]) -> dict[str, torch.Tensor]:
    """Each question's picture as its row has it, without padding."""
    found = {}
    for batch in step_batch.micro_batches:
        for name, values, mask in zip(batch.ids, batch.inputs["pixel_values"], batch.inputs["pixel_mask"], strict=True):
            found[name] = values[:, : int(mask[:, 0].sum()), : int(mask[0].sum())]
    return found


# Inputs ---------------------------------------------------------------------------------------------------------


def test_inputs_are_bit_for_bit_what_the_processor_makes(
    processor: ViltProcessor, questions: list[Conversation]
) -> None:
    encoder = ClassEncoder(processor, 12)
    found = encoder.inputs(encoder.rows(questions))
    expected = processor(
        images=[load_image(question.images[0]) for question in questions],
        text=[question.turns[0].text for question in questions],
        padding=True, truncation=True, max_length=12, return_tensors="pt",
    )  # fmt: skip
    assert found.keys() == expected.keys()
    assert {"input_ids", "token_type_ids", "attention_mask", "pixel_values", "pixel_mask"} == found.keys()
    assert all(torch.equal(found[name], expected[name]) and found[name].dtype == expected[name].dtype for name in found)


def test_pictures_become_rgb_and_the_question_is_stripped(processor: ViltProcessor, tmp_path: Path) -> None:
    Image.linear_gradient("L").resize((80, 60)).save(tmp_path / "grey.png")
    Image.new("LA", (80, 60), (9, 0)).save(tmp_path / "clear.png")
    encoder = ClassEncoder(processor)
    questions = [asked(name, tmp_path / f"{name}.png", "  what is it?\n") for name in ("grey", "clear")]
    assert question_of(questions[0]) == "what is it?"  # BERT's tokenizer drops blanks itself; another may not
    rows = encoder.rows(questions)
    assert encoder.inputs(rows)["pixel_values"].shape[1] == 3
    assert torch.all(rows[1].pixels["pixel_values"] == 1)  # transparent is white
    assert rows[0].words == dict(processor.tokenizer("what is it?"))


def test_words_are_cut_and_those_that_were_are_named(processor: ViltProcessor, questions: list[Conversation]) -> None:
    lengths = ClassEncoder(processor, 12).text_lengths(questions)
    assert lengths == [8, 11, 14, 17, 20, 23]
    step_batch = collated(ClassCollator(ClassEncoder(processor, 14), VILT, 8), questions)
    assert step_batch.changed == ["q3", "q4"]  # q2 has exactly 14, and q5 is dropped
    ids = {n: row for b in step_batch.micro_batches for n, row in zip(b.ids, b.inputs["input_ids"], strict=True)}
    assert all(
        len(row) == 14 and row[-1] == processor.tokenizer.sep_token_id for name, row in ids.items() if name > "q1"
    )
    with pytest.raises(ConfigError, match="most_words is 2; a word and the two tokens around it take 3"):
        ClassEncoder(processor, 2)


def test_records_that_cannot_be_asked_so_are_refused(processor: ViltProcessor, pictures: dict[str, Path]) -> None:
    wide = pictures["wide"]
    cases = [
        (asked("none", None), "0 images, and a classifier is asked about one. Give it its image"),
        (asked("two", [wide, pictures["tall"]]), "2 images.*Keep one image"),
        (asked("system", wide, system="Be brief."), r"2 turns before the answer \(system, user\)"),
        (asked("talk", wide, history=[["and?", "red"]], answer="red"), r"3 turns .*\(user, assistant, user\)"),
        (asked("mute", wide, "<image>"), "no words to ask"),
    ]
    encoder = ClassEncoder(processor)
    lengths = encoder.text_lengths([case for case, _ in cases] + [asked("good", wide)])
    assert lengths[-1] == 8
    for (case, said), length in zip(cases, lengths, strict=False):
        with pytest.raises(RecordError, match=rf"questions.json, record 0 \(id '{case.id}'\): {said}"):
            encoder.rows([case])
        assert isinstance(length, RecordError)
        assert isinstance(ClassPromptCollator(encoder)([case]), RecordError)


def test_a_picture_that_is_broken_or_too_narrow_comes_back_as_its_records_error(
    processor: ViltProcessor, tmp_path: Path
) -> None:
    whole = picture(tmp_path, "whole").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    narrow = picture(tmp_path, "narrow", (600, 20))
    collator = ClassCollator(ClassEncoder(processor), VILT, 2)
    for path, said in ((tmp_path / "cut.png", "cut short"), (narrow, "600 x 20 pixels .*Crop or pad it")):
        found = collator([asked("bad", path, answer="red")])
        assert isinstance(found, RecordError)
        assert "record 0 (id 'bad')" in str(found)
        with pytest.raises(RecordError, match=said):
            raise found


def test_pictures_of_different_sizes_without_a_mask_are_refused(
    processor: ViltProcessor, questions: list[Conversation]
) -> None:
    unpadded = pickle.loads(pickle.dumps(processor))
    unpadded.image_processor.do_pad = False
    encoder = ClassEncoder(unpadded)
    assert encoder.inputs(encoder.rows([questions[0], questions[2]]))["pixel_values"].shape == (2, 3, 64, 96)
    with pytest.raises(ConfigError, match="do_pad to true"):
        encoder.inputs(encoder.rows(questions))


# Step batches ---------------------------------------------------------------------------------------------------


def test_targets_stand_in_the_rows_of_their_questions(processor: ViltProcessor, questions: list[Conversation]) -> None:
    step_batch = collated(ClassCollator(ClassEncoder(processor), VILT, 2), questions)
    expected = {"q0": [1, 0, 0], "q1": [0.9, 1, 0], "q3": [1, 0, 0.6], "q4": [0, 1, 0]}
    found = {n: row for b in step_batch.micro_batches for n, row in zip(b.ids, b.targets, strict=True)}
    assert found.keys() == expected.keys()  # "two" is not normalised by ViLT's rule, "no" is in no vocabulary
    assert all(torch.equal(found[name], torch.tensor(row, dtype=torch.float32)) for name, row in expected.items())
    assert step_batch.dropped == ["q2", "q5"]
    assert (step_batch.weight, step_batch.rows) == (4, 2)
    assert [batch.weight for batch in step_batch.micro_batches] == [2, 2]
    official = collated(ClassCollator(ClassEncoder(processor), AnswerTargets(VOCABULARY, "one_hot"), 8), questions)
    assert official.dropped == ["q5"]


def test_a_step_without_any_target_has_no_rows(processor: ViltProcessor, questions: list[Conversation]) -> None:
    step_batch = collated(ClassCollator(ClassEncoder(processor), VILT, 2), [questions[5], questions[5]])
    assert (step_batch.micro_batches, step_batch.weight, step_batch.dropped) == ([], 0, ["q5", "q5"])


def test_pictures_of_alike_shape_share_a_micro_batch(processor: ViltProcessor, questions: list[Conversation]) -> None:
    collator = ClassCollator(ClassEncoder(processor), AnswerTargets(VOCABULARY, "one_hot"), 2)
    step_batch = collated(collator, questions[:5])
    assert [batch.ids for batch in step_batch.micro_batches] == [["q0", "q2"], ["q3", "q1"], ["q4"]]
    shapes = [tuple(batch.inputs["pixel_values"].shape[-2:]) for batch in step_batch.micro_batches]
    assert shapes == [(64, 96), (96, 64), (96, 64)]


def test_a_picture_is_decoded_and_processed_once_for_all_its_questions(
    processor: ViltProcessor, questions: list[Conversation], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []

    def counted(conversation: Conversation) -> list[Image.Image]:
        decoded.append(Path(str(conversation.images[0].path)).stem)
        return load_images(conversation)

    monkeypatch.setattr(class_encoding, "load_images", counted)
    encoder = ClassEncoder(processor)
    collator = ClassCollator(encoder, AnswerTargets(VOCABULARY, "one_hot"), 1)
    collated(collator, questions)
    assert sorted(decoded) == ["square", "tall", "wide"]
    decoded.clear()
    answered(ClassPromptCollator(encoder, supervised=collator), questions)
    assert sorted(decoded) == ["square", "tall", "wide"]  # the loss and the answers together


def test_the_size_of_micro_batches_changes_how_a_step_is_cut_and_nothing_else(
    processor: ViltProcessor, questions: list[Conversation]
) -> None:
    rows = MicroBatchSize(8)
    collator = ClassCollator(ClassEncoder(processor), VILT, rows, augment=TWO, seed=3)
    whole = collated(collator, questions)
    rows.rows = 1
    cut = collated(collator, questions)
    assert (len(whole.micro_batches), len(cut.micro_batches), cut.rows) == (1, 4, 1)
    assert (whole.ids, whole.weight, whole.dropped) == (cut.ids, cut.weight, cut.dropped)
    assert all(torch.equal(pixels_of(cut)[name], pixels) for name, pixels in pixels_of(whole).items())
    targets = torch.cat([batch.targets for batch in cut.micro_batches])
    assert torch.equal(targets, whole.micro_batches[0].targets)


def test_a_batch_travels_and_moves_like_any_other(processor: ViltProcessor, questions: list[Conversation]) -> None:
    collator = pickle.loads(pickle.dumps(ClassCollator(ClassEncoder(processor), VILT, 2, augment=TWO)))
    (batch, _) = collated(collator, questions).micro_batches
    to_device(batch, torch.device("meta"))
    assert {batch.targets.device.type, batch.inputs["pixel_values"].device.type} == {"meta"}


# Augmentation ---------------------------------------------------------------------------------------------------


def test_draws_follow_from_the_seed_the_step_and_the_picture(
    processor: ViltProcessor, questions: list[Conversation]
) -> None:
    encoder, targets = ClassEncoder(processor), AnswerTargets(VOCABULARY, "one_hot")

    def drawn(asked: list[Conversation], seed: int = 0, step: int = 7) -> dict[str, torch.Tensor]:
        return pixels_of(collated(ClassCollator(encoder, targets, 8, augment=TWO, seed=seed), OfStep(asked, step)))

    first, again = drawn(questions), drawn(questions)
    assert all(torch.equal(first[name], again[name]) for name in first)
    plain = pixels_of(collated(ClassCollator(encoder, targets, 8), questions))
    others = [drawn(questions, seed=1), drawn(questions, step=8), plain]
    for other in others:
        assert any(first[name].shape != other[name].shape or bool((first[name] != other[name]).any()) for name in other)
    # A rank that has some of the step's questions draws what one that has all of them does.
    for share in (questions[:4], questions[1:], questions[::-1]):
        assert all(torch.equal(first[name], pixels) for name, pixels in drawn(share).items())
    # q0 and q2 show one picture: it is drawn once.
    assert torch.equal(first["q0"], first["q2"])
    seed = derive_seed("augment", 0, 7, "wide.png")
    by_hand = rand_augment(load_image(questions[0].images[0]), TWO, seed=seed, fill=(128, 128, 128))
    expected = processor.image_processor([by_hand], return_tensors="pt")["pixel_values"][0]
    assert torch.equal(first["q0"], expected)


def test_collating_draws_no_global_random_numbers(processor: ViltProcessor, questions: list[Conversation]) -> None:
    before = random.getstate(), torch.get_rng_state()
    collated(ClassCollator(ClassEncoder(processor), VILT, 2, augment=TWO), questions)
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


# Evaluation -----------------------------------------------------------------------------------------------------


def test_questions_are_asked_in_order_whether_anybody_answered_them(
    processor: ViltProcessor, questions: list[Conversation], pictures: dict[str, Path]
) -> None:
    asked_all = [*questions, asked("open", pictures["wide"])]
    found = answered(ClassPromptCollator(ClassEncoder(processor)), asked_all)
    (batch,) = found.batches
    assert found.ids == [question.id for question in asked_all] == [c.id for c in batch.conversations]
    assert batch.inputs["pixel_values"].shape == (7, 3, 96, 96)
    assert (found.supervised, found.unanswered) == (None, [])
    assert batch.conversations[0].references == ("red",) * 10


def test_the_loss_of_the_true_answers_leaves_out_what_has_none(
    processor: ViltProcessor, questions: list[Conversation], pictures: dict[str, Path]
) -> None:
    encoder = ClassEncoder(processor)
    # What training changes in pictures is not changed here.
    collator = ClassCollator(encoder, VILT, 3, augment=TWO)
    asked_all = [asked("open", pictures["wide"]), *questions]
    found = answered(ClassPromptCollator(encoder, supervised=collator), asked_all)
    assert found.supervised is not None
    assert found.unanswered == ["open"]
    plain = collated(ClassCollator(encoder, VILT, 3), questions)
    assert (found.supervised.ids, found.supervised.dropped) == (plain.ids, plain.dropped)
    assert found.supervised.weight == 4
    for one, other in zip(found.supervised.micro_batches, plain.micro_batches, strict=True):
        assert torch.equal(one.targets, other.targets)
        assert all(torch.equal(one.inputs[name], other.inputs[name]) for name in other.inputs)
    loss_alone = answered(ClassPromptCollator(encoder, supervised=collator, asks=False), asked_all)
    assert (loss_alone.batches, loss_alone.ids) == ([], [])
    assert loss_alone.supervised is not None


def test_decoded_pixels_stay_in_the_worker(processor: ViltProcessor, pictures: dict[str, Path]) -> None:
    shown = asked("held", pictures["wide"])
    held = replace(shown, images=(ImageRef(pixels=load_image(shown.images[0])),))
    found = answered(ClassPromptCollator(ClassEncoder(processor)), [held, held])
    assert all(c.images[0].pixels is None for c in found.batches[0].conversations)
    assert found.batches[0].inputs["pixel_values"].shape == (2, 3, 64, 96)


# The check ahead ------------------------------------------------------------------------------------------------


def test_what_cannot_be_asked_is_found_before_a_run_starts(
    processor: ViltProcessor, pictures: dict[str, Path], tmp_path: Path
) -> None:
    wide, tall = str(pictures["wide"]), str(pictures["tall"])
    rows = [
        {"id": "good", "image": wide, "question": "what is it?", "answer": "red"},
        {"id": "several", "images": [wide, tall], "question": "what are these?", "answer": "red"},
        {"id": "none", "question": "what is it?", "answer": "red"},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    source = SourceSettings(path=str(tmp_path / "rows.jsonl"), image_root="/")
    dataset = open_source(source, prompt=None, system=None, requires_answer=True, check_images=False)
    assert isinstance(dataset, ConversationDataset)
    for uses in (Uses(learns=True, asks=False), Uses(learns=False, asks=True)):
        seen = checked_ahead(dataset, ClassEncoder(processor), uses, lambda _: None)
        assert [(one.index, one.code) for one in seen.bad] == [(1, "question.images"), (2, "question.images")]
        assert seen.longest[0] == 6
