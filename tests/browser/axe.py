"""axe-core, which looks at a page as assistive technology does.

It comes from the npm registry by npm's own configuration, once, into radwb's cache.
"""

import shutil
import subprocess
import tarfile

import pytest

import radwb as rw

NAME = "axe-core@4"
SERIOUS = ("serious", "critical")
RUN = """async selector => {
  const { violations } = await axe.run(selector, { resultTypes: ["violations"] });
  return violations.map(({ id, impact, nodes }) => ({
    id, impact, nodes: nodes.slice(0, 4).map(n => n.html.slice(0, 160)),
    why: nodes[0]?.failureSummary,
  }));
}"""


def source():
    """The text of axe-core; skips where npm or its registry isn't there."""
    folder = rw.data.cache_folder() / "npm"
    script = folder / "axe.min.js"
    if not script.exists():
        npm = shutil.which("npm")
        if not npm:
            pytest.skip("no npm on this machine, which brings axe-core")
        folder.mkdir(parents=True, exist_ok=True)
        call = [npm, "pack", NAME, "--silent", "--pack-destination", str(folder)]
        done = subprocess.run(call, capture_output=True, text=True, timeout=120)
        if done.returncode:
            pytest.skip(f"npm brought no axe-core: {done.stderr.strip()[-200:]}")
        with tarfile.open(folder / done.stdout.split()[-1]) as package:
            script.write_bytes(package.extractfile("package/axe.min.js").read())
    return script.read_text("utf-8")


def findings(page, selector):
    """What is serious or critical below `selector`."""
    page.evaluate(source())
    found = page.evaluate(RUN, selector)
    return [row for row in found if row["impact"] in SERIOUS]
