"""sample is killed, again and again, and ends as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

from every_sample_kill import inline_sample
from kill_kit import every_death
from prepare_kit import checksums, inline_prepare, paths_below, random_rows, write_logs

from distill_at_scale.data.dataset import Dataset


def test_a_kill_at_every_file(tmp_path: Path) -> None:
    """Without Ray, so that it is cheap: driver and parts in one process, which dies before and after every rename."""
    logs = write_logs(tmp_path / "logs", random_rows(3, 3000, 200, 100), 2)
    data = inline_prepare(input=logs, output=str(tmp_path / "data"), shards=3)
    settings = {"data": data.uri, "sampler": "temporal", "budget": ["0.5", "0.2"], "seed": 4}
    whole = inline_sample(**settings, output=str(tmp_path / "whole"))
    output = tmp_path / "out"
    uris = [str(output / Path(s.uri).name) for s in whole.samples]
    deaths = every_death("every_sample_kill.py", [{**settings, "output": str(output)}, uris])
    written = {death["file"].removeprefix(f"{output}/") for death in deaths}
    assert len(deaths) == 2 * len(written)
    files = {path for path in paths_below(tmp_path / "whole") if (tmp_path / "whole" / path).is_file()}
    assert files < written
    ends = [k for k, death in enumerate(deaths) if death["when"] == "after" and "/manifest.json" in death["file"]]
    assert [deaths[k]["file"] for k in ends] == [f"{uri}/manifest.json" for uri in uris]
    for k, death in enumerate(deaths):
        assert death["datasets"] == [k >= end for end in ends]
    for one, other in zip(whole.samples, uris):
        sample = Dataset.open(other)
        sample.verify()
        assert checksums(sample) == checksums(Dataset.open(one.uri))
    assert paths_below(output) == paths_below(tmp_path / "whole")
