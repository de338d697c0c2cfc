"""Sentences about devices: what each is called and where its tip is.

`radwb.findings.devices` has the names and places.
"""

import re

from radwb.findings.devices import TIPS, device_name, device_phrase, tip_words

SHORT = 0.4  # share of the impressions that name a well placed device alone
UNSAID = 0.7  # share of the reports that pass over ECG leads beside other devices


def in_findings(device, rng, grammar):
    """A sentence that names the device, where its tip is, and whether that is wrong."""
    if device.kind == "ECG leads":
        return pick(rng, grammar.leads)
    name = device_name(device.kind, device.side)
    part, where = tip_words(device.kind, device.side, device.tip, device.tip_cm)
    if not device.tip:
        text = pick(rng, grammar.in_place).format(name=name)
        return with_article(_renamed(text, rng, grammar))
    fault = TIPS[device.kind][device.tip].fault
    lies = "project" if where.startswith("over") else "lie"
    if part != "lead tips":
        lies += "s"
    templates = grammar.misplaced if fault else grammar.placed
    text = pick(rng, templates).format(
        name=name, part=part, where=where, fault=fault, lies=lies
    )
    return with_article(_renamed(text, rng, grammar))


def in_impression(device, rng, grammar):
    """The device with its tip; one that lies well may be named alone."""
    tip = device.tip
    is_misplaced = tip and TIPS[device.kind][tip].fault
    if not is_misplaced and rng.random() < SHORT:
        tip = ""
    text = device_phrase(device.kind, device.side, tip, device.tip_cm) + "."
    return _renamed(text, rng, grammar)


def _renamed(text, rng, grammar):
    """With other names of the device and of the vein, where the grammar has some."""
    for name, others in grammar.renamed.items():
        if name in text:
            text = text.replace(name, pick(rng, others))
    return text


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
