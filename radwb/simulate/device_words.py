"""Sentences about devices: what each is called and where its tip is.

`radwb.findings.devices` has the names and places.
"""

import re

from radwb.findings.devices import TIPS, device_name, device_phrase, tip_words

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
    """A sentence that names the device, where its tip is, and whether that is wrong."""
    if device.kind == "ECG leads":
        return pick(rng, LEADS)
    name = device_name(device.kind, device.side)
    part, where = tip_words(device.kind, device.side, device.tip, device.tip_cm)
    if not device.tip:
        return with_article(pick(rng, IN_PLACE).format(name=name))
    fault = TIPS[device.kind][device.tip].fault
    lies = "project" if where.startswith("over") else "lie"
    if part != "lead tips":
        lies += "s"
    templates = MISPLACED if fault else PLACED
    text = pick(rng, templates).format(
        name=name, part=part, where=where, fault=fault, lies=lies
    )
    return with_article(text)


def in_impression(device, rng):
    """The device with its tip; one that lies well may be named alone."""
    tip = device.tip
    is_misplaced = tip and TIPS[device.kind][tip].fault
    if not is_misplaced and rng.random() < SHORT:
        tip = ""
    return device_phrase(device.kind, device.side, tip, device.tip_cm) + "."


def without_leads(mentions, rng):
    """What is worth a word: beside other devices ECG leads seldom are."""
    devices = [f for f in mentions if f.name == "Support Devices"]
    has_others = any(f.kind != "ECG leads" for f in devices)
    if has_others and rng.random() < UNSAID:
        return [f for f in mentions if f.kind != "ECG leads"]
    return mentions


def with_article(text):
    """The right article before a vowel."""
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)


def pick(rng, options):
    """One of the options."""
    return options[int(rng.integers(len(options)))]
