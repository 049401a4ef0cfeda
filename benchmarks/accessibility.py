"""An accessibility audit of a report with axe in a real browser, light and dark.

    python -m benchmarks.accessibility report/ [--axe axe.min.js]

axe-core comes from npm (into a temporary folder) unless a file is given; Chromium has to be installed. The pages are
audited as copies without their content-security policy, which would refuse a foreign script. Prints each finding;
exit status 1 if one is serious or critical.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from html import unescape
from pathlib import Path
from typing import Any

AXE = "axe-core@4.14.1"
SCHEMES = {"light": "1", "dark": "0"}  # as Chromium's preferredColorScheme counts
GRAVE = ("serious", "critical")
_RUN = """
axe.run(document, {resultTypes: ["violations"]}).then(function (found) {
  var out = document.createElement("pre");
  out.id = "axe-result";
  out.textContent = JSON.stringify(found.violations.map(function (one) {
    var nodes = one.nodes.map(function (node) { return node.html; });
    return {id: one.id, impact: one.impact, help: one.help, nodes: nodes};
  }));
  document.body.appendChild(out);
});
"""


def main() -> int:
    """Print one line per finding and page; exit status 1 if one is serious."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="folder of a report")
    parser.add_argument("--axe", type=Path, help="axe.min.js, if it is there already")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        script = (arguments.axe or fetch_axe(Path(folder))).read_text(encoding="utf-8")
        copy = Path(folder) / "report"
        shutil.copytree(arguments.report, copy)
        grave = 0
        for page in main_pages(copy):
            with_axe(page, script)
            for scheme in SCHEMES:
                findings = audit(page, scheme)
                grave += sum(one["impact"] in GRAVE for one in findings)
                name = page.relative_to(copy)
                print(f"{name} ({scheme}): {len(findings)} findings")
                for one in findings:
                    print(
                        f"  {one['impact']}: {one['id']}, {one['help']} ({len(one['nodes'])}x) {one['nodes'][0][:160]}"
                    )
    print(f"serious or critical: {grave}")
    return int(grave > 0)


def fetch_axe(folder: Path) -> Path:
    """Returns axe.min.js, fetched with npm into `folder`."""
    subprocess.run(["npm", "pack", "--silent", AXE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    [archive] = folder.glob("axe-core-*.tgz")
    with tarfile.open(archive) as packed:
        packed.extract("package/axe.min.js", folder, filter="data")
    return folder / "package/axe.min.js"


def main_pages(report: Path) -> list[Path]:
    """Returns the first page, the lists, all tables, and the first experiment and figure."""
    pages = [report / "index.html", report / "experiments.html", report / "figures.html"]
    pages += sorted(report.glob("table-*.html"))
    for folder in ("experiments", "figures"):
        pages += sorted((report / folder).glob("*.html"))[:1]
    return [page for page in pages if page.is_file()]


def with_axe(page: Path, script: str) -> None:
    """Puts axe into a page, which then writes what it finds into an element of its own."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    text = re.sub(r"<details(?! open)", "<details open", text)  # what is folded away is read too
    page.write_text(
        text.replace("</body>", f"<script>{script}</script><script>{_RUN}</script></body>"), encoding="utf-8"
    )


def rendered(page: Path, *options: str, budget: int = 20_000) -> "subprocess.CompletedProcess[str]":
    """Returns what Chromium printed: the page's document after `budget` milliseconds of its own time."""
    with tempfile.TemporaryDirectory() as profile:
        return subprocess.run(
            [
                "chromium",
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                *options,
                f"--user-data-dir={profile}",
                f"--virtual-time-budget={budget}",
                "--dump-dom",
                page.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )


def audit(page: Path, scheme: str) -> list[dict[str, Any]]:
    """Returns axe's findings on one page."""
    done = rendered(page, f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}")
    found = re.search(r'<pre id="axe-result">(.*?)</pre>', done.stdout, re.DOTALL)
    if found is None:
        raise RuntimeError(f"axe said nothing about {page.name}: {done.stderr[-500:]}")
    findings: list[dict[str, Any]] = json.loads(unescape(found[1]))
    return findings


if __name__ == "__main__":
    sys.exit(main())
