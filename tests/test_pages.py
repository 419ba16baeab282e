"""The pages of the repository: links lead somewhere, and what is marked as runnable runs."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from processes import ROOT, Process

FILES = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True).stdout.split()
PAGES = [ROOT / name for name in FILES] or [path for path in ROOT.rglob("README.md") if ".venv" not in path.parts]
MARKED = re.compile(r"<!-- runnable -->\n```(sh|python)\n(.*?)```", re.DOTALL)
BLOCKS = [(page, language, text) for page in PAGES for language, text in MARKED.findall(page.read_text())]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", link):
            continue  # another site
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize(
    ("page", "language", "text"), BLOCKS, ids=[f"{page.relative_to(ROOT)}-{n}" for n, (page, *_) in enumerate(BLOCKS)]
)
def test_what_is_marked_as_runnable_runs(page, language, text, tmp_path, monkeypatch):
    if language == "python":
        monkeypatch.chdir(tmp_path)
        exec(compile(text, str(page), "exec"), {"__name__": "__main__"})
        return
    for line in text.replace("\\\n", " ").splitlines():
        python, module, *arguments = shlex.split(line, comments=True)
        assert (python, module) == ("python", "-m")
        process = Process(*arguments, variables={"HOME": str(tmp_path)})
        said = "".join(process.communicate())
        assert process.returncode == 0, said


def test_some_blocks_of_both_kinds_are_marked():
    assert {language for _, language, _ in BLOCKS} == {"sh", "python"}
