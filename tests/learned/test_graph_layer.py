"""The interference step: which conjugates cancel, and the coefficients of the paper's appendix."""

import pytest
import torch

from holobeam.learned.graph_layer import interference, mean_of_others
from holobeam.testing import gaussian

from .surface_networks import channels


def _left(columns, beams):
    """Mean of ``|h_1^H v_2| / (|h_1| |v_2|)``."""
    first, second = columns[..., 0], beams[..., 1]
    heard = (first.conj() * second).sum(dim=1).abs()
    return (heard / (first.norm(dim=1) * second.norm(dim=1))).mean()


def _users(batch=2000):
    return channels(batch, users=2, shape=(5, 5))[:, 0].mH


def test_one_other_user_hears_nothing():
    columns = _users()
    amplitude = torch.rand(2000, 25, 1, dtype=torch.float64, generator=_generator())
    masked = columns * amplitude
    beams = gaussian((2000, 25, 2, 1), 3)
    after = beams - interference(columns, amplitude, beams)
    assert _left(masked, beams[..., 0]) > 0.1
    assert _left(masked, after[..., 0]) < 1e-6
    matched = columns.unsqueeze(3)
    assert _left(columns, (matched - interference(columns, None, matched))[..., 0]) < 1e-6


@pytest.mark.parametrize(("variant", "measured"), [("conjugate", 0.288), ("literal", 0.371)])
def test_printed_conjugates_do_not_cancel(variant, measured):
    """They leave more of a matched beam than the step began with."""
    columns = _users()
    matched = columns.unsqueeze(3)
    after = matched - interference(columns, None, matched, variant)
    left = _left(columns, after[..., 0])
    assert left == pytest.approx(measured, abs=0.04)
    assert left > _left(columns, columns)


def test_printed_step_in_the_other_convention():
    """Channels ``g = conj(h)``, received ``g^T x``: a conjugate is still missing."""
    columns = _users()
    begin = columns.conj().unsqueeze(3)
    after = begin - interference(columns, None, begin, "literal")
    left = _left(columns.conj(), after[..., 0])
    assert left == pytest.approx(0.24, abs=0.04)
    sent = interference(columns.conj(), None, begin)
    assert _left(columns.conj(), (begin - sent)[..., 0]) < 1e-6


@pytest.mark.parametrize("users", [3, 4, 5])
def test_coefficients_of_appendix_a_zero_all_interference(users):
    """lambda_ki = [G_k^-1 b_k]_i / b_ki: exact, but of one channel alone."""
    columns = gaussian((20, 25, users), users)
    columns = columns * torch.rand(20, 25, 1, dtype=torch.float64, generator=_generator())
    heard = columns.mH @ columns
    norms = heard.diagonal(dim1=1, dim2=2).real
    for k in range(users):
        others = [i for i in range(users) if i != k]
        gram = heard[:, others][:, :, others] / norms[:, others].unsqueeze(1)
        b = heard[:, others, k]
        coefficients = torch.linalg.solve(gram, b) / b
        step = columns[:, :, others] * (b / norms[:, others]).unsqueeze(1)
        beam = columns[:, :, k] - (step * coefficients.unsqueeze(1)).sum(dim=2)
        size = beam.norm(dim=1, keepdim=True) * columns[:, :, others].norm(dim=1)
        left = (columns[:, :, others].mH @ beam.unsqueeze(2)).squeeze(2).abs() / size
        assert left.max() < 1e-12
        # The step itself is that of the layer, its coefficients all 1.
        sent = interference(columns, None, columns.unsqueeze(3))[:, :, k, 0]
        assert torch.allclose(step.sum(dim=2), sent, atol=1e-9)
        if users > 2:
            assert coefficients.abs().std(dim=0).max() > 1e-3, "no constant would do"


def test_channels_are_masked_each_by_its_own_amplitude():
    columns, beams = gaussian((4, 6, 3), 0), gaussian((4, 6, 3, 5), 1)
    amplitude = torch.rand(4, 6, 5, dtype=torch.float64, generator=_generator())
    together = interference(columns, amplitude, beams)
    for c in range(5):
        masked = columns * amplitude[..., c : c + 1]
        alone = interference(masked, None, beams[..., c : c + 1])
        assert torch.allclose(together[..., c], alone[..., 0], atol=1e-9)


def test_absent_user_sends_nothing():
    columns = gaussian((4, 6, 3), 0)
    columns[:, :, 1] = 0.0
    beams = gaussian((4, 6, 3, 2), 1)
    sent = interference(columns, None, beams)
    two = interference(columns[:, :, [0, 2]], None, beams[:, :, [0, 2]])
    assert torch.isfinite(sent.real).all()
    assert torch.allclose(sent[:, :, [0, 2]], two, atol=1e-9)


def test_mean_of_others():
    edges = torch.randn(2, 4, 3, 5, generator=_generator())
    mean = mean_of_others(edges, 2)
    assert torch.allclose(mean[:, :, 0], edges[:, :, 1:].mean(dim=2), atol=1e-6)
    assert (mean_of_others(edges[:, :, :1], 2) == 0).all()


def _generator():
    return torch.Generator().manual_seed(5)
