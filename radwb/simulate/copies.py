"""Films that are filed twice, under another patient: the leak that an audit finds."""

COPIES = ("duplicate", "near duplicate")


def copies(scan, row, expose, rng, dials, splits):
    """[(scan, row)] of a film, and of its copies that are filed under another patient.

    They may lie in another part of the split.
    """
    films = [(scan, row)]
    chances = (dials.duplicates, dials.near_duplicates)
    for kind, chance in zip(COPIES, chances, strict=True):
        if chance and rng.random() < chance:
            copied = {
                "path": f"{row['path']}_{kind.split()[0]}",
                "patient_id": f"{row['patient_id']}-{kind[0]}",
                "study_id": f"{row['study_id']}-{kind[0]}",
                "copy_of": row["study_id"],
                "split": splits[kind],
            }
            film_again = scan if kind == "duplicate" else expose(rng)
            films.append((film_again, row | copied))
    return films
