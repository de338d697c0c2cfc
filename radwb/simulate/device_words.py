"""Sentences about devices: what each is called and where its tip is; `radwb.findings`
has the names and places.
"""

import re

from radwb.findings import TIPS, device_name, device_phrase, tip_words

PLACED = (
    "There is a {name} with its {part} {where}.",
    "The {part} of the {name} {lies} {where}.",
    "{name}, {part} {where}.",
)
MISPLACED = (
    "The {name} is {fault}, its {part} {where}.",
    "The {name} is malpositioned, with its {part} {where}.",
)
IN_PLACE = ("There is a {name}.", "{name} in place.")  # nobody says where it ends
LEADS = ("ECG leads overlie the chest.", "Overlying ECG leads.")
SHORT = 0.4  # share of the impressions that name a well placed device alone
UNSAID = 0.7  # share of the reports that pass over ECG leads beside other devices


def in_findings(device, rng):
    """A sentence that names the device and says where its tip is; one that lies badly
    is called so.
    """
    if device.kind == "ECG leads":
        return pick(rng, LEADS)
    name = device_name(device.kind, device.side)
    part, where = tip_words(device.kind, device.side, device.tip, device.tip_cm)
    if not device.tip:
        return with_article(pick(rng, IN_PLACE).format(name=name))
    fault = TIPS[device.kind][device.tip].fault
    verb = "project" if where.startswith("over") else "lie"
    words = {
        "name": name,
        "part": part,
        "where": where,
        "fault": fault,
        "lies": verb if part == "lead tips" else verb + "s",
    }
    template = pick(rng, MISPLACED if fault else PLACED)
    return with_article(template.format(**words))


def in_impression(device, rng):
    """The device with its tip; one that lies well may be named alone."""
    fault = device.tip and TIPS[device.kind][device.tip].fault
    short = not fault and rng.random() < SHORT
    tip = "" if short else device.tip
    return device_phrase(device.kind, device.side, tip, device.tip_cm) + "."


def without_leads(said, rng):
    """What a report has of some findings: beside other devices ECG leads are seldom
    worth a word.
    """
    devices = [f for f in said if f.name == "Support Devices"]
    others = [f for f in devices if f.kind != "ECG leads"]
    if others and rng.random() < UNSAID:
        return [f for f in said if f.kind != "ECG leads"]
    return said


def with_article(text):
    """The right article before a vowel."""
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)


def pick(rng, options):
    """One of some options."""
    return options[int(rng.integers(len(options)))]
