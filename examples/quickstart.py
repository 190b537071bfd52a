"""Three solvers serve four users in Munich at 20 dBm: what each front-end buys."""

import holobeam as hb
from holobeam.channels import munich, munich_drops, munich_panel

panel = munich_panel()
# Channels over the noise amplitude: noise power 1 and powers in mW give the link budget.
h = munich().channel(panel, munich_drops()[:4], noise_dbm=-85.0)

for name, method in (
    ("rhs", "mmse-fast"),
    ("phase-shifters", "vp"),
    ("digital", "wmmse-digital"),
):
    frontend = hb.frontends.build(name, panel.array, rf_chains=4)
    problem = hb.Downlink(h, frontend, noise_power=1.0, power=100.0)
    solution = hb.solve(problem, method, seed=0)
    rates = ", ".join(f"{rate:.1f}" for rate in solution.sum_rate.tolist())
    print(f"{name:>14} / {method:<13} {rates} bit/s/Hz")
