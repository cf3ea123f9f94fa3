"""A product data set without a download: drawn products with names, categories and descriptions.

    python scripts/products/draw_products.py --output products --items 400 --seed 0

The same items twice: `products.parquet` in the columns of philschmid/amazon-product-descriptions-vlm (image, Product
Name, Category, description), and `messages.jsonl` in the messages form of chat APIs with `images/` beside it. A name
tells the series, material and size; colour and pattern are in the picture alone, so a description that states them
was not written from the name. The same seed writes the same files.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random
from typing import Final

import datasets
from product_pictures import COLOURS, PATTERNS, SHAPES, Look, draw

PROMPT: Final = (
    "Create a Short Product description based on the provided ##PRODUCT NAME## and ##CATEGORY## and image.\n"
    "Return the description alone, worded so that a search from a phone finds it.\n\n"
    "##PRODUCT NAME##: {name}\n##CATEGORY##: {category}"
)
"""What the config fills in for the Parquet file (`data/product_descriptions.yaml`)."""

_SERIES: Final = ("Harbour", "Alder", "Nordlicht", "Fable", "Quarry", "Meadow", "Tidal", "Ember", "Linden", "Orchard")
_SIZES: Final = {"Small": 0.7, "Medium": 0.85, "Large": 1.0}


@dataclass(frozen=True)
class Kind:
    """What a shop says of one kind of thing."""

    title: str
    category: str
    materials: tuple[str, ...]
    use: str


KINDS: Final = {
    "mug": Kind("Mug", "Home & Kitchen | Drinkware", ("Ceramic", "Enamel"), "morning coffee or tea"),
    "lamp": Kind("Table Lamp", "Home & Kitchen | Lighting", ("Linen", "Paper"), "a desk or a bedside table"),
    "box": Kind("Storage Box", "Home & Kitchen | Storage", ("Cardboard", "Pine"), "toys, papers and linen"),
    "vase": Kind("Vase", "Home & Kitchen | Decor", ("Glass", "Stoneware"), "fresh and dried flowers"),
    "bag": Kind("Tote Bag", "Clothing & Accessories | Bags", ("Cotton", "Canvas"), "shopping and the beach"),
    "bottle": Kind("Water Bottle", "Sports & Outdoors | Hydration", ("Steel", "Glass"), "the gym and long walks"),
    "cushion": Kind("Cushion", "Home & Kitchen | Textiles", ("Cotton", "Velvet"), "a sofa or a reading chair"),
    "shoe": Kind("Sneaker", "Clothing & Accessories | Shoes", ("Canvas", "Leather"), "walks in town"),
}


@dataclass(frozen=True)
class Item:
    """One product: its texts and the bytes of its picture."""

    name: str
    category: str
    description: str
    picture: bytes


def item(kind: str, colour: str, pattern: str, random: Random) -> Item:
    """A product of this kind, colour and pattern; the rest is drawn by lot."""
    shop, series, size = KINDS[kind], random.choice(_SERIES), random.choice(list(_SIZES))
    material = random.choice(shop.materials)
    picture = draw(Look(kind=kind, colour=colour, pattern=pattern, scale=_SIZES[size]), random)
    name = f"{series} {material} {shop.title}, {size}"
    description = _description(shop, f"{series} {shop.title}", f"{pattern} {colour}", size, material, random)
    return Item(name, shop.category, description, picture)


def _description(shop: Kind, title: str, look: str, size: str, material: str, random: Random) -> str:
    article = "An" if look[0] in "aeiou" else "A"
    first = random.choice(
        (
            f"{article} {look} {shop.title.lower()} in {material.lower()}: the {title} is made for {shop.use}.",
            f"Meet the {title}: {size.lower()}, {look}, and made of {material.lower()} for {shop.use}.",
        )
    )
    last = random.choice(
        (
            f"The {size.lower()} size fits small homes, and the {look} finish goes with everything.",
            f"Order this {look} {shop.title.lower()} in {size.lower()} today.",
        )
    )
    return f"{first} {last}"


def items(count: int, seed: int) -> list[Item]:
    """So many products, no kind, colour and pattern twice before all were used once."""
    random = Random(seed)
    looks = list(product(SHAPES, COLOURS, PATTERNS))
    made: list[Item] = []
    while len(made) < count:
        random.shuffle(looks)
        made += [item(*look, random) for look in looks[: count - len(made)]]
    return made


def write_parquet(made: list[Item], path: Path) -> None:
    """Write the products in the hub's columns."""
    rows = [
        {
            "image": {"bytes": one.picture, "path": None},
            "Product Name": one.name,
            "Category": one.category,
            "description": one.description,
        }
        for one in made
    ]
    texts = {name: datasets.Value("string") for name in ("Product Name", "Category", "description")}
    features = datasets.Features({"image": datasets.Image(), **texts})
    datasets.Dataset.from_list(rows, features=features).to_parquet(str(path))


def write_messages(made: list[Item], folder: Path, *, inline: bool) -> None:
    """Write the products as messages; pictures as files beside them, or `inline` as data URIs."""
    images = folder / "images"
    images.mkdir()
    with (folder / "messages.jsonl").open("w", encoding="utf-8") as lines:
        for number, one in enumerate(made):
            url = f"images/{number:05}.png"
            if inline:
                url = "data:image/png;base64," + base64.b64encode(one.picture).decode()
            else:
                (folder / url).write_bytes(one.picture)
            lines.write(json.dumps({"id": f"item-{number:05}", "messages": messages(one, url)}) + "\n")
    if inline:
        images.rmdir()


def messages(one: Item, url: str) -> list[dict[str, object]]:
    """What is asked of a product, and the answer, in the form of chat APIs."""
    asked = PROMPT.format(name=one.name, category=one.category)
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": asked}]
    return [{"role": "user", "content": content}, {"role": "assistant", "content": one.description}]


def main() -> None:
    """Parse the options and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("products"))
    parser.add_argument("--items", type=int, default=400)
    parser.add_argument("--inline", action="store_true", help="put the pictures into messages.jsonl as data URIs")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.items < 1:
        sys.exit("error: --items must be at least 1.")
    if options.output.exists():
        sys.exit(f"error: {options.output} exists. Name another --output, or remove it first.")
    options.output.mkdir(parents=True)
    datasets.disable_progress_bars()
    made = items(options.items, options.seed)
    write_parquet(made, options.output / "products.parquet")
    write_messages(made, options.output, inline=options.inline)
    print(f"{len(made)} products, as products.parquet and as messages.jsonl")


if __name__ == "__main__":
    main()
