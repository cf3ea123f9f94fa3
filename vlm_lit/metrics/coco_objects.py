"""Words of COCO's 80 object classes as CHAIR knows them: synonyms, plurals, and words read together.

Source of the synonyms and of the words read together: LisaAnne/Hallucination (Rohrbach et al. 2018), `data/synonyms.txt`
and `utils/chair.py`, snapshot 6e4d33c, BSD 2-Clause License; kept letter by letter, slips included. Source of the
plurals: the results of `pattern.en.singularize` (clips/pattern d25511f), which CHAIR calls.

What follows from it, and is wanted since published figures have it: `bus` is not found, for it is made `bu`, while
`buses` is; nor are `ties`, `canoes`, `magpies`, `motor bike` and `cheesecake`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

# ruff: noqa: E501 - a line is a class
SYNONYMS: Final = """
person, girl, boy, man, woman, kid, child, chef, baker, people, adult, rider, children, baby, worker, passenger, sister, biker, policeman, cop, officer, lady, cowboy, bride, groom, male, female, guy, traveler, mother, father, gentleman, pitcher, player, skier, snowboarder, skater, skateboarder, person, woman, guy, foreigner, child, gentleman, caller, offender, coworker, trespasser, patient, politician, soldier, grandchild, serviceman, walker, drinker, doctor, bicyclist, thief, buyer, teenager, student, camper, driver, solider, hunter, shopper, villager
bicycle, bike, bicycle, bike, unicycle, minibike, trike
car, automobile, van, minivan, sedan, suv, hatchback, cab, jeep, coupe, taxicab, limo, taxi
motorcycle, scooter,  motor bike, motor cycle, motorbike, scooter, moped
airplane, jetliner, plane, air plane, monoplane, aircraft, jet, jetliner, airbus, biplane, seaplane
bus, minibus, trolley
train, locomotive, tramway, caboose
truck, pickup, lorry, hauler, firetruck
boat, ship, liner, sailboat, motorboat, dinghy, powerboat, speedboat, canoe, skiff, yacht, kayak, catamaran, pontoon, houseboat, vessel, rowboat, trawler, ferryboat, watercraft, tugboat, schooner, barge, ferry, sailboard, paddleboat, lifeboat, freighter, steamboat, riverboat, battleship, steamship
traffic light, street light, traffic signal, stop light, streetlight, stoplight
fire hydrant, hydrant
stop sign
parking meter
bench, pew
bird, ostrich, owl, seagull, goose, duck, parakeet, falcon, robin, pelican, waterfowl, heron, hummingbird, mallard, finch, pigeon, sparrow, seabird, osprey, blackbird, fowl, shorebird, woodpecker, egret, chickadee, quail, bluebird, kingfisher, buzzard, willet, gull, swan, bluejay, flamingo, cormorant, parrot, loon, gosling, waterbird, pheasant, rooster, sandpiper, crow, raven, turkey, oriole, cowbird, warbler, magpie, peacock, cockatiel, lorikeet, puffin, vulture, condor, macaw, peafowl, cockatoo, songbird
cat, kitten, feline, tabby
dog, puppy, beagle, pup, chihuahua, schnauzer, dachshund, rottweiler, canine, pitbull, collie, pug, terrier, poodle, labrador, doggie, doberman, mutt, doggy, spaniel, bulldog, sheepdog, weimaraner, corgi, cocker, greyhound, retriever, brindle, hound, whippet, husky
horse, colt, pony, racehorse, stallion, equine, mare, foal, palomino, mustang, clydesdale, bronc, bronco
sheep, lamb, ram, lamb, goat, ewe
cow, cattle, oxen, ox, calf, cattle, holstein, heifer, buffalo, bull, zebu, bison
elephant
bear, panda
zebra
giraffe
backpack, knapsack
umbrella
handbag, wallet, purse, briefcase
tie, bow, bow tie
suitcase, suit case, luggage
frisbee
skis, ski
snowboard
sports ball, ball
kite
baseball bat
baseball glove
skateboard
surfboard, longboard, skimboard, shortboard, wakeboard
tennis racket, racket
bottle
wine glass
cup
fork
knife, pocketknife, knive
spoon
bowl, container
banana
apple
sandwich, burger, sub, cheeseburger, hamburger
orange
broccoli
carrot
hot dog
pizza
donut, doughnut, bagel
cake,  cheesecake, cupcake, shortcake, coffeecake, pancake
chair, seat, stool
couch, sofa, recliner, futon, loveseat, settee, chesterfield
potted plant, houseplant
bed
dining table, table, desk
toilet, urinal, commode, toilet, lavatory, potty
tv, monitor, televison, television
laptop, computer, notebook, netbook, lenovo, macbook, laptop computer
mouse
remote
keyboard
cell phone, mobile phone, phone, cellphone, telephone, phon, smartphone, iPhone
microwave
oven, stovetop, stove, stove top oven
toaster
sink
refrigerator, fridge, fridge, freezer
book
clock
vase
scissors
teddy bear, teddybear
hair drier, hairdryer
toothbrush
"""
"""A class a line: its name and then the words for it, parted by a comma and one blank. Of a word twice the last counts."""

_SINGULARS: Final = """
airbuses airbus, babies baby, bananae banana, benches bench, broncoes bronco, buffaloes buffalo, buses bus, calves
calf, canoes cano, chihuahuae chihuahua, children child, cockatooes cockatoo, collies collies, couches couch,
dinghies dinghy, dobermen doberman, doggies doggies, ferries ferry, finches finch, flamingoes flamingo, geese goose,
gentlemen gentleman, glasses glass, grandchildren grandchild, huskies husky, kine cow, knives knife, ladies lady,
lavatories lavatory, lenovoes lenovo, limoes limo, lorries lorry, magpies magpy, men man, mice mouse, minibuses
minibus, ostriches ostrich, oxen ox, oxenen oxen, oxens oxs, oxes ox, palominoes palomino, pandae panda, people
person, pizzae pizza, pocketknives pocketknife, policemen policeman, ponies pony, potties potty, puppies puppy,
sandwiches sandwich, scissors scissors, servicemen serviceman, sofae sofa, tabbies tabby, teddies teddy, ties ty,
toothbrushes toothbrush, umbrellae umbrella, women woman, zebrae zebra
"""
SINGULARS: Final[Mapping[str, str]] = MappingProxyType(dict(map(str.split, _SINGULARS.replace("\n", " ").split(", "))))
"""The words that do not lose their `s` alone, with what `pattern` makes of them; those that matter to `SYNONYMS`."""

_PAIRS: Final = (
    "motor bike, motor cycle, air plane, traffic light, street light, traffic signal, stop light, fire hydrant, "
    "stop sign, parking meter, suit case, sports ball, baseball bat, baseball glove, tennis racket, wine glass, "
    "hot dog, cell phone, mobile phone, teddy bear, hair drier, potted plant, laptop computer, home plate, train track"
)
_ANIMALS: Final = "bird cat dog horse sheep cow elephant bear zebra giraffe animal cub"

JOINED: Final[Mapping[tuple[str, ...], str]] = MappingProxyType(
    {
        **{tuple(pair.split()): pair for pair in _PAIRS.split(", ")},
        **{(age, animal): animal for animal in _ANIMALS.split() for age in ("baby", "adult")},
        ("passenger", "jet"): "jet",
        ("passenger", "train"): "train",
        ("bow", "tie"): "tie",
        ("toilet", "seat"): "toilet",
        ("wine", "glas"): "wine glass",
    }
)
"""Words side by side that are read as one: a `baby elephant` is no person, a `home plate` nothing at all."""

MUTED: Final[Mapping[str, str]] = MappingProxyType({"seat": "toilet"})
"""Words that name nothing in a text with the other word in it: the seat of a toilet is no chair."""
