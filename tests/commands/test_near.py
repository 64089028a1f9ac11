"""`compile --near`: the image's shape, mix and scales, fewer changed cells; and the trade."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.adapters import write_adapter
from tests.support.command_line import Run
from weights.rom import RomImage, open_image


@pytest.fixture(scope="module")
def adapter(tiny_image: RomImage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("near") / "some", tiny_image.config, 2)


def test_near_masks_change_less(
    here: Run, tmp_path, tiny_image: RomImage, tiny_checkpoint: Path, adapter: Path
):
    """And between doing nothing and all anew in distance from the fine-tune."""
    base, merged = tiny_image.folder, tmp_path / "merged"
    made = ("compile", tiny_checkpoint, "--lora", adapter, "--json", "--out")
    options = ("--mix", tiny_image.manifest["mix"], "--quantiser", "fast")
    here(*made, merged, *options, "--context", tiny_image.context).report  # noqa: B018
    near = [tmp_path / "all", tmp_path / "some"]
    for folder, price in zip(near, ("0", "0.02"), strict=True):
        report = here(*made, folder, "--near", base, "--near-price", price).report
        assert (report["mix"], report["context"]) == (tiny_image.manifest["mix"], 64)
        assert open_image(folder).manifest["near"]["image"] == tiny_image.digest
    shown = ("respin", base, merged, *near, "--lora", adapter, "--checkpoint", tiny_checkpoint)
    picture = tmp_path / "near.svg"
    points = here(*shown, "--json", "--plot", picture).report["images"]
    nothing, anew, everything, some = points
    assert [point["price"] for point in points] == [None, None, 0, 0.02]
    assert nothing["changed_cells"] == 0 < some["changed_cells"] < everything["changed_cells"]
    assert everything["changed_cells"] < anew["changed_cells"]
    assert (some["changed_scales"], everything["changed_scales"]) == (0, 0)
    assert max(some["kl"], everything["kl"]) < nothing["kl"]
    assert picture.stat().st_size > 1000
    assert "via cells changed, %" in here(*shown).out
    (one,) = [m for m in here("respin", base, near[1], "--json").report["matrices"][:1]]
    assert one["changed_scales"] == 0


def test_near_itself_nothing_changes(here: Run, tmp_path, tiny_image, tiny_checkpoint):
    """Whose codes are the best that there are, whatever the price."""
    made = ("compile", tiny_checkpoint, "--near", tiny_image.folder, "--json")
    folder = here(*made, "--near-price", "0.001").report["image"]
    assert "-near-" in folder
    assert here(*made, "--near-price", "0.001").report["reused"]
    assert here("respin", tiny_image.folder, folder, "--json").report["same"] is True


def test_refused(here: Run, tmp_path, tiny_image, untied_image, tiny_checkpoint):
    near = ("compile", tiny_checkpoint, "--near", tiny_image.folder)
    here(*near, "--mix", "6").refused("--near keeps the image's bit mix")
    here(*near, "--workers", "2").refused("--near is made in one process")
    here(*near, "--near-price", "-1").refused("--near-price -1: 0 or more")
    here(*near, "--near-price", "nan").refused("--near-price nan")
    here("compile", tiny_checkpoint, "--near-price", "1").refused("goes with --near")
    other = ("compile", tiny_checkpoint, "--near", untied_image.folder)
    here(*other).refused("its matrices have other shapes")
    several = ("respin", tiny_image.folder, tiny_image.folder, tiny_image.folder)
    here(*several, "--plot", tmp_path / "x.svg").refused("--lora")
    here(*several[:3], untied_image.folder).refused("no base die holds both")
