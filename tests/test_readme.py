"""What the README shows in Python runs as it stands, from top to bottom."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_readme_runs(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    # The last one is about a solver of the reader's own.
    shown = [block for block in blocks if "my-solver" not in block]
    assert len(shown) >= 5
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in shown:
        exec(compile(block, str(README), "exec"), names)
    assert (tmp_path / "beams.npz").exists()
    assert "tensor" in capsys.readouterr().out
