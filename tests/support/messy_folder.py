"""A folder of pictures and question files as people have them: over a hundred kinds of dirt, each with its outcome.

`python tests/support/messy_folder.py FOLDER` writes one and prints the command that curates it.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import sys
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

KEPT, MERGED = "kept", "merged"
COLUMNS = "question=frage,answer=antwort,image=bild"
PREFIXES = ("D:/data/photos=", "/mnt/other/photos=")


@dataclass(frozen=True)
class Expected:
    """What is to become of one row: `outcome` is kept, merged or a reason."""

    kind: str
    source: str
    record: int
    outcome: str


@dataclass
class Messy:
    """A messy folder: where its parts are, and what is to become of each row."""

    folder: Path
    expected: list[Expected] = field(default_factory=list)
    sources: list[Path] = field(default_factory=list)
    _pictures: int = 0

    @property
    def photos(self) -> Path:
        return self.folder / "photos"

    def picture(self) -> Image.Image:
        """One that is like no other."""
        self._pictures += 1
        grid = np.random.default_rng(self._pictures).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        return Image.fromarray(grid).resize((160, 120), Image.Resampling.BICUBIC)

    def photo(self, name: str, image: Image.Image | None = None, **how: Any) -> str:
        """A picture's file; the name."""
        path = self.photos / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (self.picture() if image is None else image).save(path, **how)
        return name

    def bytes_as(self, name: str, content: bytes) -> str:
        """A file that may be no picture; the name."""
        (self.photos / name).write_bytes(content)
        return name

    def expect(self, source: str, kinds: list[tuple[str, str]]) -> None:
        """Note what is to become of a file's rows, in their order."""
        self.sources.append(self.folder / source)
        self.expected += [Expected(kind, source, record, outcome) for record, (kind, outcome) in enumerate(kinds)]

    def arguments(self, output: Path) -> list[str]:
        """The command line, behind the program's name, that curates it."""
        prefixes = [word for prefix in PREFIXES for word in ("--prefix", prefix)]
        named = ["--images", str(self.photos), "--output", str(output), "--columns", COLUMNS, *prefixes]
        return ["curate", *map(str, self.sources), *named]


def write(folder: Path) -> Messy:
    """Write the folder."""
    messy = Messy(folder)
    messy.photos.mkdir(parents=True)
    rows = [*_paths(messy), *_bad_pictures(messy), *_odd_pictures(messy), *_duplicates(messy), *_words(messy)]
    lines = [(kind, outcome, json.dumps({"id": kind, **row}, ensure_ascii=False)) for kind, outcome, row in rows]
    _write_lines(messy, "rows.jsonl", [(kind, outcome, line.encode()) for kind, outcome, line in lines], blank=True)
    _broken_json(messy)
    _tables(messy)
    _labelling_tools(messy)
    _stores(messy)
    return messy


Row = tuple[str, str, dict[str, Any]]


def asked(image: object, question: object = "what is this?", answer: object = "a lamp") -> dict[str, Any]:
    return {"image": image, "question": question, "answer": answer}


def _write_lines(messy: Messy, name: str, lines: list[tuple[str, str, bytes]], *, blank: bool = False) -> None:
    between = b"\n\n" if blank else b"\n"
    (messy.folder / name).write_bytes(between.join(line for *_, line in lines) + b"\n")
    messy.expect(name, [(kind, outcome) for kind, outcome, _ in lines])


def _paths(messy: Messy) -> list[Row]:
    new = messy.photo
    composed = unicodedata.normalize("NFC", "café é.png")
    decomposed = unicodedata.normalize("NFD", "naïve ü.png")
    new(composed), new(decomposed)
    new("Twice.png"), new("tWICE.png")
    (messy.photos / "link.png").symlink_to(messy.photos / new("real.png"))
    outside = messy.folder / "elsewhere.png"
    messy.picture().save(outside)
    return [
        ("plain path", KEPT, asked(new("plain.png"))),
        ("backslashes", KEPT, asked(new("sub/back.png").replace("/", "\\"))),
        ("dot and slashes", KEPT, asked("./sub//" + new("sub/dots.png").removeprefix("sub/"))),
        ("other case", KEPT, asked(new("sub/lower.png").upper())),
        ("other case on disk", KEPT, asked(new("SUB2/UPPER.PNG").lower())),
        ("jpeg for jpg", KEPT, asked(new("ending.jpg").replace("jpg", "jpeg"))),
        ("png for jpg", KEPT, asked(new("other_ending.jpg").replace("jpg", "png"))),
        ("no ending", KEPT, asked(new("noending.png").removesuffix(".png"))),
        ("blanks around", KEPT, asked(f"  {new('blanks.png')} \n")),
        ("percent signs", KEPT, asked(new("two words.png").replace(" ", "%20"))),
        ("decomposed letters in the row", KEPT, asked(unicodedata.normalize("NFD", composed))),
        ("decomposed letters on disk", KEPT, asked(unicodedata.normalize("NFC", decomposed))),
        ("Windows path, mapped", KEPT, asked("d:\\Data\\Photos\\" + new("win.png"))),
        ("another machine's path, mapped", KEPT, asked("/mnt/other/photos/" + new("sub/unix.png"))),
        ("another machine's path", "path.other_machine", asked("/home/bob/pics/" + new("sub/bob.png"))),
        ("Windows path", "path.other_machine", asked("E:\\pics\\" + new("drive.png"))),
        ("this machine's path", KEPT, asked(str(messy.photos / new("absolute.png")))),
        ("path outside the folder", "path.outside_root", asked(str(outside))),
        ("file address", KEPT, asked((messy.photos / new("address.png")).as_uri())),
        ("the folder's name before it", KEPT, asked("photos/" + new("named.png"))),
        ("dots that stay inside", KEPT, asked("sub/../" + new("inside.png"))),
        ("dots that lead out", "path.outside_root", asked("../../secret.png")),
        ("address on the network", "path.url", asked("https://example.com/cat.png")),
        ("empty path", "conversation.no_image", asked("")),
        ("no picture named", "conversation.no_image", asked(None)),
        ("blank path", "path.empty", asked("   ")),
        ("number for a path", "image.type", asked(17)),
        ("missing file", "image.missing", asked("gone.png")),
        ("two files of that name", "path.ambiguous", asked("twice.png")),
        ("quotes in the name", KEPT, asked(new('it\'s "so".png'))),
        ("a folder", "image.missing", asked("sub")),
        ("a link", KEPT, asked("link.png")),
        ("brackets in the name", KEPT, asked(new("a[1](2).png"))),
    ]


def _bad_pictures(messy: Messy) -> list[Row]:
    png, jpeg = io.BytesIO(), io.BytesIO()
    messy.picture().save(png, "PNG")
    messy.picture().save(jpeg, "JPEG")
    damaged = bytearray(png.getvalue())
    damaged[len(damaged) // 2] ^= 0xFF
    as_bytes = messy.bytes_as
    frames = [messy.picture(), messy.picture()]
    messy.photo("moving.gif", frames[0], save_all=True, append_images=frames[1:])
    messy.photo("strip.png", Image.new("RGB", (4, 2000), "red"))
    os.mkfifo(messy.photos / "pipe.png")
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    return [
        ("empty file", "image.empty", asked(as_bytes("empty.png", b""))),
        ("cut PNG", "image.truncated", asked(as_bytes("cut.png", png.getvalue()[:-600]))),
        ("cut JPEG", "image.truncated", asked(as_bytes("cut.jpg", jpeg.getvalue()[:-900]))),
        ("cut header", "image.format", asked(as_bytes("header.png", png.getvalue()[:6]))),
        ("damaged pixels", "image.damaged", asked(as_bytes("damaged.png", bytes(damaged)))),
        ("text for a picture", "image.format", asked(as_bytes("text.png", b"hello"))),
        ("web page for a picture", "image.web_page", asked(as_bytes("page.jpg", b"<html>404</html>"))),
        ("LFS pointer for a picture", "image.lfs_pointer", asked(as_bytes("pointer.png", pointer))),
        ("moving picture", "image.animated", asked("moving.gif")),
        ("strip", "image.aspect", asked("strip.png")),
        ("pipe", "image.not_a_file", asked("pipe.png")),
        ("broken base64", "image.data_uri", asked("data:image/png;base64,abc")),
    ]


def _odd_pictures(messy: Messy) -> list[Row]:
    new, picture = messy.photo, messy.picture
    png = io.BytesIO()
    picture().save(png, "PNG")
    encoded = base64.b64encode(png.getvalue()).decode()
    other = io.BytesIO()
    picture().save(other, "PNG")
    messy.bytes_as("png_named.jpg", _png(picture()))
    turned = Image.Exif()
    turned[0x0112] = 6
    two = [new("first.png"), new("second.png")]
    return [
        ("grey", KEPT, asked(new("grey.png", picture().convert("L")))),
        (
            "16 bits",
            KEPT,
            asked(new("deep.png", Image.fromarray(np.arange(120 * 160, dtype=np.uint16).reshape(120, 160)))),
        ),
        ("transparent", KEPT, asked(new("alpha.png", picture().convert("RGBA")))),
        ("palette", KEPT, asked(new("palette.gif", picture().convert("P")))),
        ("CMYK", KEPT, asked(new("cmyk.jpg", picture().convert("CMYK")))),
        ("PNG named JPEG", KEPT, asked("png_named.jpg")),
        ("turned by EXIF", KEPT, asked(new("turned.jpg", exif=turned))),
        ("one pixel", KEPT, asked(new("pixel.png", Image.new("RGB", (1, 1), "blue")))),
        ("data URI", KEPT, asked(f"data:image/png;base64,{encoded}")),
        ("bare base64", KEPT, asked(base64.b64encode(other.getvalue()).decode())),
        ("two pictures", KEPT, {**asked(None), "images": two}),
        ("list of one missing", "image.missing", {**asked(None), "images": [two[0], "gone.png"]}),
        ("list written as text", KEPT, asked(str([new("listed.png")]))),
        ("two picture keys", "conversation.ambiguous", {**asked(two[0]), "images": [two[1]]}),
        (
            "picture within a message",
            KEPT,
            {"messages": [_message("user", new("part.png")), {"role": "assistant", "content": "a lamp"}]},
        ),
    ]


def _message(role: str, image: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "image", "path": f".\\{image}"}, {"type": "text", "text": "what?"}]}


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _duplicates(messy: Messy) -> list[Row]:
    image = messy.picture()
    first = messy.photo("first_copy.png", image)
    second = messy.bytes_as("second_copy.png", (messy.photos / first).read_bytes())
    return [
        ("a picture that has copies", KEPT, asked(first, "is it red?", "Yes")),
        ("the same row again", MERGED, asked(first, "is it red?", "Yes")),
        ("in other capitals", MERGED, asked(first, "Is it  RED ?", "yes.")),
        ("copy of the picture, same words", MERGED, asked(second, "is it red?", "Yes")),
        ("copy of the picture, other words", KEPT, asked(second, "is it new?", "no")),
        ("more accepted answers", KEPT, {**asked(first, "is it red?", None), "answers": ["yes", "yes", "maybe"]}),
        ("near duplicate, compressed", KEPT, asked(messy.photo("near.jpg", image, quality=30))),
        ("near duplicate, smaller", KEPT, asked(messy.photo("small.png", image.resize((80, 60))))),
        ("near duplicate, blurred", KEPT, asked(messy.photo("soft.png", image.filter(ImageFilter.GaussianBlur(1))))),
        ("contradiction, one side", KEPT, asked(messy.photo("argued.png"), "how many?", "2")),
        ("contradiction, other side", KEPT, asked("argued.png", "how many?", "3")),
        ("two spellings of one answer", MERGED, asked("argued.png", "how many?", "two")),
    ]


def _words(messy: Messy) -> list[Row]:
    image = messy.photo("words.png")
    ten = [{"answer": "red", "answer_confidence": "yes", "answer_id": k} for k in range(1, 11)]
    return [
        ("empty answer", "conversation.blank_answer", asked(image, answer="")),
        ("blank answer", "conversation.blank_answer", asked(image, answer="  ")),
        ("null answer", "conversation.no_answer", asked(image, answer=None)),
        ("no answer", "conversation.no_answer", {"image": image, "question": "what is it?"}),
        ("no answers in a list", "conversation.no_answer", {"image": image, "question": "what?", "answers": []}),
        ("answer to be done", "conversation.blank_answer", asked(image, answer="TODO")),
        ("answer to be annotated", "conversation.blank_answer", asked(image, answer="[ANNOTATE: the answer]")),
        ("question to be annotated", "conversation.unfilled", asked(image, "[ANNOTATE: a question]")),
        ("ten answers", KEPT, {"image": image, "question": "which colour?", "answers": ten}),
        ("whole number for an answer", KEPT, asked(image, "how many lamps?", 2)),
        ("fraction for an answer", "conversation.value", asked(image, answer=2.5)),
        ("truth value for an answer", "conversation.value", asked(image, answer=True)),
        ("object for an answer", "conversation.value", asked(image, answer={"a": 1})),
        ("empty question", "conversation.empty_turn", asked(image, "")),
        ("null question", "conversation.empty_turn", asked(image, None)),
        ("number for a question", "conversation.value", asked(image, 5)),
        ("list for a question", "conversation.value", asked(image, ["what?"])),
        ("nothing but a picture", "conversation.form", {"image": image}),
        ("turns as text", "conversation.turns_type", {"image": image, "conversations": "hello"}),
        ("unknown role", "conversation.role", _talk(image, "alien", "gpt")),
        ("two turns by one", "conversation.order", _talk(image, "human", "human")),
        ("no answer to a turn", "conversation.no_answer", _talk(image, "human")),
        ("LLaVA's turns", KEPT, _talk(image, "human", "gpt")),
        ("more places than pictures", "conversation.image_count", asked(image, "<image> or <image>?")),
        ("a film", "conversation.key", {**asked(image), "video": "a.mp4"}),
        ("letters of other scripts", KEPT, asked(image, "这是什么颜色 🎨", "красный")),
        ("a very long answer", KEPT, asked(image, "tell me all", "word " * 5000)),
        ("markup", KEPT, asked(image, "<script>alert(1)</script>?", "<b>bold</b> & more")),
        ("markup, rejected", "conversation.blank_answer", asked(image, "<script>alert(1)</script>?", "")),
        ("id of an earlier row", KEPT, {**asked(image, "whose id is it?"), "id": "plain path"}),
        ("no id", KEPT, {**asked(image, "who am I?"), "id": None}),
        ("empty id", "conversation.value", {**asked(image, "what is my name?"), "id": ""}),
    ]


def _talk(image: str, *roles: str) -> dict[str, Any]:
    return {"image": image, "conversations": [{"from": role, "value": f"words {k}"} for k, role in enumerate(roles)]}


def _broken_json(messy: Messy) -> None:
    image = messy.photo("json.png")
    good = json.dumps({"id": "after broken lines", **asked(image)}).encode()
    start = f'{{"image": "{image}", "question": "what?", "answer": '.encode()
    deep = b"[" * 80 + b"]" * 80
    _write_lines(
        messy,
        "broken.jsonl",
        [
            ("no JSON", "json.syntax", b"image: a.png"),
            ("a list in a line", "json.not_an_object", b'[["a.png", "what?"]]'),
            ("a key twice", "json.duplicate_key", start + b'"a", "answer": "b"}'),
            ("no number", "json.not_a_number", start + b"NaN}"),
            ("huge number", "json.huge_number", start + b"1" * 200 + b"}"),
            ("half a surrogate", "json.lone_surrogate", start + b'"\\ud800"}'),
            ("zero character", "json.zero_character", start + b'"a\\u0000"}'),
            ("no UTF-8", "json.encoding", start + b'"caf\xe9"}'),
            ("too deep", "json.too_deep", start + deep + b"}"),
            ("two objects in a line", "json.syntax", good + good),
            ("after broken lines", KEPT, good),
            ("cut line", "json.truncated", start + b'"a la'),
        ],
    )
    listed = [json.dumps({"id": f"list {k}", **asked(image, f"number {k}?")}) for k in range(3)]
    content = f"\ufeff[{listed[0]},\n17,\n{listed[1]},\n{listed[2][:-20]}"
    (messy.folder / "cut.json").write_text(content, encoding="utf-8")
    found = [
        ("list 0", KEPT),
        ("number in a list", "json.not_an_object"),
        ("list 1", KEPT),
        ("cut list", "json.truncated"),
    ]
    messy.expect("cut.json", found)
    (messy.folder / "cut_object.json").write_text(f'{{"data": [{listed[0]}, {listed[1][:-20]}')
    messy.expect("cut_object.json", [("cut object", "json.truncated")])
    (messy.folder / "nothing.json").write_bytes(b"")
    messy.expect("nothing.json", [("empty source", "json.empty")])
    under = {"info": {}, "data": [{"id": "under a key", **asked(image, "under a key?")}]}
    (messy.folder / "object.json").write_text(json.dumps(under))
    messy.expect("object.json", [("under a key", KEPT)])
    packed = {"id": "packed", **asked(image, "packed?")}
    (messy.folder / "packed.jsonl.gz").write_bytes(gzip.compress(json.dumps(packed).encode()))
    messy.expect("packed.jsonl.gz", [("packed", KEPT)])


def _tables(messy: Messy) -> None:
    image = messy.photo("table.png")
    german = (
        "id;bild;frage;antwort\n"
        f"german names;{image};Was ist das?;eine Lampe\n"
        f"too few cells;{image};Was?\n"
        f"too many cells;{image};Was?;a;b\n"
        f'broken quotes;{image};"Was" ist?;a\n'
        f'line break in a cell;{image};"Was ist\ndas hier?";eine Lampe\n'
        f"empty cell;{image};Was fehlt?;\n"
    ).encode()
    other = f"wrong encoding;{image};Welche Farbe?;grün\n".encode("cp1252")
    (messy.folder / "german.csv").write_bytes(b"\xef\xbb\xbf" + german + other)
    messy.expect(
        "german.csv",
        [
            ("german names", KEPT),
            ("too few cells", "table.syntax"),
            ("too many cells", "table.syntax"),
            ("broken quotes", "table.syntax"),
            ("line break in a cell", KEPT),
            ("empty cell", "conversation.no_answer"),
            ("wrong encoding", "table.encoding"),
        ],
    )
    excel = f"id\timage\tquestion\tanswer\r\nUTF-16\t{image}\tWhich code?\tgrün\r\n"
    (messy.folder / "excel.tsv").write_bytes(excel.encode("utf-16"))
    messy.expect("excel.tsv", [("UTF-16", KEPT)])
    (messy.folder / "twice.csv").write_text("image,image,question\na,b,c\n")
    messy.expect("twice.csv", [("a column twice", "table.syntax")])
    album = messy.folder / "album"
    album.mkdir()
    messy.picture().save(album / "one.png")
    (album / "metadata.csv").write_text("id,file_name,question,answer\nfile name,one.png,What is here?,a lamp\n")
    messy.expect("album/metadata.csv", [("file name", KEPT)])


def _labelling_tools(messy: Messy) -> None:
    image, upload = messy.photo("labelled.png"), messy.photo("uploaded.png")

    def task(name: str, path: str, annotations: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {"id": name, "data": {"image": path, "question": f"{name}?"}, "annotations": annotations, **more}

    def said(*texts: str, kind: str = "text", **more: Any) -> dict[str, Any]:
        return {"result": [result("box", "textarea", {kind: list(texts)})], "was_cancelled": False, **more}

    def result(name: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
        return {"from_name": name, "to_name": "image", "type": kind, "value": value}

    def beside_a_comment(name: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
        results = [result("answer", kind, value), result("comment", "textarea", {"text": ["blurred"]})]
        return task(name, image, [{"result": results}])

    box = {"x": 1, "y": 1, "width": 5, "height": 5, "rectanglelabels": ["car"]}
    guess = {"predictions": [{"result": said("a guess")["result"]}]}
    tasks = [
        ("two annotators", KEPT, task("two annotators", f"/data/local-files/?d={image}", [said("red"), said("blue")])),
        (
            "uploaded to Label Studio",
            KEPT,
            task("uploaded to Label Studio", f"/data/upload/1/0a1b2c3d-{upload}", [said("red")]),
        ),
        ("cancelled", "label_studio.unlabelled", task("cancelled", image, [{**said("red"), "was_cancelled": True}])),
        ("predicted only", "label_studio.unlabelled", task("predicted only", image, [], **guess)),
        ("two choices at once", "label_studio.several_choices", task("x", image, [said("a", "b", kind="choices")])),
        ("one choice", KEPT, task("one choice", image, [said("yes", kind="choices")])),
        ("a number", KEPT, beside_a_comment("a number", "number", {"number": 3})),
        ("a rating", KEPT, beside_a_comment("a rating", "rating", {"rating": 4})),
        ("a date", KEPT, beside_a_comment("a date", "datetime", {"datetime": "2024-05-01"})),
        ("a number alone", KEPT, task("a number alone", image, [{"result": [result("n", "number", {"number": 2.5})]}])),
        ("a region", "label_studio.type", beside_a_comment("a region", "rectanglelabels", box)),
        ("a relation", "label_studio.type", task("x", image, [{"result": [{"type": "relation", "from_id": "a"}]}])),
        (
            "a marked word",
            "label_studio.type",
            beside_a_comment("x", "labels", {"start": 0, "end": 3, "text": "car", "labels": ["noun"]}),
        ),
    ]
    (messy.folder / "labels.json").write_text(json.dumps([row for *_, row in tasks], indent=1))
    messy.expect("labels.json", [(kind, outcome) for kind, outcome, _ in tasks])
    flat = {"id": "flat", "image": image, "question": "flat?", "answer": "yes", "annotator": 1, "annotation_id": 5}
    (messy.folder / "labels_min.json").write_text(json.dumps([{**flat, "lead_time": 2.5}]))
    messy.expect("labels_min.json", [("flat", KEPT)])
    tag = '<tag label="vqa"><attribute name="id">{}</attribute><attribute name="question">What &amp; why?</attribute>'
    (messy.folder / "cvat.xml").write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>\n'
        f'<image id="0" name="{image}" width="1" height="1">{tag.format("tagged")}'
        '<attribute name="answer">a lamp</attribute></tag></image>\n'
        f'<image id="1" name="{image}" width="1" height="1"></image>\n'
        f'<image id="2" name="{image}" width="1" height="1"><box label="b" xtl="1" ytl="1" xbr="2" ybr="2">'
        '<attribute name="answer">x</attribute></box></image>\n'
        f'<image id="3" name="{image}" width="1" height="1">{tag.format("unanswered tag")}</tag></image>\n'
        "</annotations>\n"
    )
    kinds = [("tagged", KEPT), ("no tag", "cvat.no_tag"), ("a box", "cvat.shape")]
    messy.expect("cvat.xml", [*kinds, ("unanswered tag", "conversation.no_answer")])
    cut = (
        f'<annotations><image name="{image}">{tag.format("before the cut")}<attribute name="answer">a</attribute></tag>'
    )
    (messy.folder / "cut.xml").write_text(cut)
    messy.expect("cut.xml", [("before the cut", KEPT), ("cut XML", "cvat.syntax")])


def _stores(messy: Messy) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    held = [{"bytes": _png(messy.picture()), "path": None}, None, {"bytes": b"no picture", "path": None}]
    names = ["held in a table", "null in a table", "broken in a table"]
    table = pa.table(
        {
            "id": names,
            "image": pa.array(held, type=image),
            "question": [f"{name}?" for name in names],
            "answer": ["yes", "no", "yes"],
            "score": [0.5, float("nan"), 1.0],
        }
    )
    pq.write_table(table, messy.folder / "table.parquet")
    outcomes = [KEPT, "conversation.no_image", "image.format"]
    messy.expect("table.parquet", list(zip(names, outcomes, strict=True)))


if __name__ == "__main__":
    made = write(Path(sys.argv[1]))
    kinds = len({one.kind for one in made.expected})
    print(f"{len(made.expected)} rows of {kinds} kinds in {len(made.sources)} sources. Curate them with:")
    print("python -m vlm_lit", *(f"'{word}'" for word in made.arguments(Path(sys.argv[1]) / "curated")))
