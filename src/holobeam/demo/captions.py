"""Captions and key figures of the page; every number in them is computed from the runs."""

from __future__ import annotations

from holobeam.demo import numbers
from holobeam.demo.figures import BITS_OF_REAL_MODULATION
from holobeam.demo.hologram import ghost_height
from holobeam.demo.numbers import dc_watts_at, mean_rate, milliseconds, percent, starved
from holobeam.demo.runs import ASSUMED_LOSS_DB, FRONT_RUNNERS, HARDWARE, Outcome
from holobeam.demo.scenario import BANDWIDTH, NOISE_FIGURE_DB, RF_CHAINS, USERS_PER_DROP
from holobeam.studies import outage, paired_difference, starved_share


def lead(outcome: Outcome) -> str:
    """Three sentences on the scenario."""
    scenario = outcome.scenario
    array = scenario.panel.array
    along_y, along_z = array.shape
    seen = float(scenario.line_of_sight[scenario.kept].double().mean())
    cells = array.wavelength / array.spacing
    return (
        f"<p>A panel of <b>{along_y} &times; {along_z} elements</b>, λ/{cells:.0f} apart, with "
        f"<b>{RF_CHAINS} RF chains</b> looks over a square in Munich; every front-end below drives "
        "the same panel. "
        f"Of {scenario.paths.users} ray-traced users, {len(scenario.kept)} stand in its sector "
        f"within reach ({percent(seen)} in line of sight), and {len(scenario.drops)} random groups "
        f"of {USERS_PER_DROP} are served together. "
        f"Noise is {scenario.noise_dbm:g} dBm ({BANDWIDTH / 1e6:g} MHz, noise figure "
        f"{NOISE_FIGURE_DB:g} dB), <b>power is radiated power for all</b>, and path loss is "
        "left as it is.</p>"
    )


def tiles(outcome: Outcome) -> list[tuple[str, str]]:
    """Key figures."""
    focus = outcome.plan.focus
    rhs = outcome.runs["rhs"].at(focus).sum_rate
    gain = paired_difference(rhs, outcome.runs["mmse"].at(focus).sum_rate)
    ratio = dc_watts_at(outcome, "ps", focus) / dc_watts_at(outcome, "rhs", focus)
    found = [
        (
            f"{float(rhs.mean()):.1f} bit/s/Hz",
            f"sum rate of the holographic surface (mmse-fast) at {focus:g} dBm",
        ),
        (
            f"{gain.mean:+.2f} bit/s/Hz",
            f"mmse-fast against mmse on the same drops (± {gain.half_width:.2f}), with "
            f"{percent(starved(outcome, 'rhs', focus))} of users starved instead of "
            f"{percent(starved(outcome, 'mmse', focus))}",
        ),
        (
            f"{ratio:.0f} \N{MULTIPLICATION SIGN}",
            "less DC power than phase shifters at the same radiated power, by the default power "
            "models",
        ),
    ]
    extra = numbers.extra_power_db(outcome, "rhs", "ps")
    if extra is not None:
        text = "more radiated power than phase shifters for the same rate: what the surface costs"
        found.append((f"{extra:.1f} dB", text))
    return found


def headline(outcome: Outcome) -> str:
    """Notes under the main table."""
    batch = outcome.runs["rhs"].solution.problem.batch
    return (
        f"Mean over {len(outcome.scenario.drops)} drops ± 95 % confidence interval; Δ: paired "
        "difference to the best solver of the same front-end on the same drops; starved: users "
        f"below 0.1 bit/s/Hz; ms: wall clock per channel, {batch} channels in one batch."
    )


def rate_power(outcome: Outcome) -> str:
    """On rate against radiated power."""
    focus, top = outcome.plan.focus, outcome.plan.powers[-1]
    rates = ", ".join(
        f"{HARDWARE[outcome.runs[key].entrant.frontend]} "
        f"<b>{mean_rate(outcome, key, focus):.1f}</b>"
        for key in FRONT_RUNNERS
    )
    gap = paired_difference(
        outcome.runs["digital"].at(focus).sum_rate, outcome.runs["ps"].at(focus).sum_rate
    )
    extra = numbers.extra_power_db(outcome, "rhs", "ps")
    shift = (
        f" The surface needs <b>{extra:.1f} dB</b> more than phase shifters for the rate that it "
        f"reaches at {top:g} dBm."
        if extra is not None
        else ""
    )
    cap = BITS_OF_REAL_MODULATION
    beyond = [
        HARDWARE[outcome.runs[key].entrant.frontend]
        for key in FRONT_RUNNERS
        if mean_rate(outcome, key, top) > cap * USERS_PER_DROP
    ]
    unreal = (
        f" At {top:g} dBm {' and '.join(beyond)} exceed {cap:g} bit per user on average, more than "
        "real modulations carry."
        if beyond
        else ""
    )
    return (
        f"At {focus:g} dBm, in bit/s/Hz: {rates}. Phase shifters are "
        f"{numbers.plus_minus(gap)} bit/s/Hz behind the digital bound, drawn as the broad pale "
        f"line under them.{shift} Bands: ± one standard error over drops, which differ far more "
        "than solvers do; the table has the paired differences. Dashed: baselines on the surface. "
        f"No front-end has any insertion loss here.{unreal}"
    )


def rate_dc(outcome: Outcome) -> str:
    """On rate against DC power."""
    focus = outcome.plan.focus
    frontends = outcome.scenario.frontends
    models = "; ".join(
        f"{HARDWARE[name]} {frontends[name].rf_chains} chains &times; "
        f"{frontends[name].power_model.rf_chain:g} mW"
        + (
            f" + {frontends[name].antennas * frontends[name].controls} controls &times; "
            f"{frontends[name].power_model.control:g} mW"
            if not frontends[name].is_digital
            else ""
        )
        for name in ASSUMED_LOSS_DB
    )
    watts = ", ".join(
        f"{HARDWARE[outcome.runs[key].entrant.frontend]} "
        f"<b>{dc_watts_at(outcome, key, focus):.1f} W</b>"
        for key in FRONT_RUNNERS
    )
    loss = ", ".join(f"{HARDWARE[name]} {db:g} dB" for name, db in ASSUMED_LOSS_DB.items())
    model = frontends["rhs"].power_model
    return (
        f"At {focus:g} dBm radiated and no insertion loss: {watts}. Power models: {models}; "
        f"baseband {model.fixed:g} mW and amplifiers of {percent(model.amplifier_efficiency)} "
        "efficiency for all (Méndez-Rial et al., IEEE Access 2016; Ribeiro et al., IEEE JSTSP "
        "2018; Huang et al., IEEE TWC 2019): orders of magnitude, to be replaced by your own "
        f"hardware's. Right: losses between amplifier and air <b>assumed</b> as {loss}, round "
        "numbers to show what losses do; each point radiates what it radiates on the left, so "
        "that its rate stays and its amplifiers work harder. <b>Check:</b> with lossless models "
        "that draw only what they radiate, DC power is radiated power (times the loss, where "
        "there is one); largest relative difference in this run "
        f"<b>{numbers.worst_mismatch(outcome):.1e}</b>."
    )


def rate_time(outcome: Outcome) -> str:
    """On rate against time."""
    fast, folded, learned = (milliseconds(outcome, key) for key in ("rhs", "mmse", "learned"))
    batch = outcome.runs["rhs"].solution.problem.batch
    return (
        "Points are iterations, stamped while the solver ran; curves begin once the start is "
        f"made. {batch} channels (all powers) are one batch and the time is divided by their "
        f"number. On the surface mmse ends after {folded:.1f} ms and mmse-fast after {fast:.1f} "
        f"ms, and the network of unrolled-mmse, which never saw this city, after {learned:.2f} ms; "
        "on the front-ends for which a continuous or digital problem is solved first, that is "
        "in the time of the start. Wall clock of this machine: other load shifts curves sideways."
    )


def rate_cdf(outcome: Outcome) -> str:
    """On the distribution of user rates."""
    focus = outcome.plan.focus
    shares = ", ".join(
        f"{outcome.runs[key].entrant.label} <b>{percent(starved(outcome, key, focus), 1)}</b>"
        for key in ("digital", "ps", "dma", "rhs", "mmse")
    )
    return (
        f"The step at 0 is users left without service; below 0.1 bit/s/Hz are: {shares}. "
        "Where two curves cross, neither solver is the better one at every rank."
    )


def convergence(outcome: Outcome) -> str:
    """On convergence."""
    focus = outcome.plan.focus
    parts = []
    for key in ("rhs", "mmse"):
        history = outcome.runs[key].history(focus).mean(dim=0)
        near = int((history >= 0.99 * history[-1]).nonzero()[0])
        parts.append(f"{outcome.runs[key].entrant.label} after <b>{near}</b>")
    return (
        f"Within 1 % of their own end at {focus:g} dBm, in iterations: {', '.join(parts)}. "
        "mmse-fast lowers the noise first, which is meant to keep users from being switched "
        "off early; its gains come when the noise is back. The on/off surface starts from the "
        "solution for continuous "
        "amplitudes. Mean over drops of the best rate so far."
    )


def hologram(outcome: Outcome) -> str:
    """On the hologram and its far field."""
    shift = ghost_height(outcome.scenario.panel)
    rhs, ps = outcome.poster["rhs"], outcome.poster["ps"]
    low = shift + 0.2
    ghost = numbers.power_into(outcome, rhs, -1.0, low)
    same = numbers.power_into(outcome, ps, -1.0, low)
    gains = numbers.user_gains_dbi(outcome, rhs)
    best = numbers.user_gains_dbi(outcome, ps)
    return (
        "Seen from behind the panel, looking out. <b>Top:</b> amplitudes (divided by their 90th "
        "percentile and clipped), what the elements radiate, and what every user receives of every "
        f"beam: signals are at least <b>{numbers.isolation_db(outcome):.0f} dB</b> over every "
        "interference. Triangles: feeds. <b>Bottom:</b> gain over radiated power of the four beams "
        "together; circles mark the strongest path of each user, towards which the surface has "
        f"{min(gains):.1f} to {max(gains):.1f} dBi and phase shifters {min(best):.1f} to "
        f"{max(best):.1f} dBi. The broad <b>ghost</b> is no error: real amplitudes make the "
        "conjugate of every wave along with it, which the guide and the sampling of the panel "
        f"shift to v = {shift:.2f} &minus; v(user) (dashed, for the mean user), widened because "
        f"the feeds are near. Below v = {low:.2f} the surface sends {percent(ghost)} of the power "
        f"in sight, phase shifters {percent(same)}."
    )


def poster(outcome: Outcome) -> str:
    """On the map of the beams."""
    solution = outcome.poster["rhs"]
    rates = ", ".join(f"{float(rate):.1f}" for rate in solution.rates[0])
    return (
        f"One holographic surface, one hologram, four beams at {outcome.plan.focus:g} dBm in all: "
        f"what each of the {outcome.scenario.paths.users} users of the city would "
        "receive of each beam (every point lights the ground around it). "
        "Star: the user that the beam is for; rings: the other three, "
        "whom it should leave in the dark. "
        f"Rates {rates} bit/s/Hz. Square and arrow: base station and facing; dotted: its sector."
    )


def fairness(outcome: Outcome) -> str:
    """On the two objectives."""
    part = outcome.fairness[0]
    total, fair = float(part.sum_rate.sum(dim=1).mean()), float(part.fair.sum(dim=1).mean())
    return (
        f"All users of all drops on the surface at {outcome.plan.focus:g} dBm; red crosses get "
        "less than 0.1 bit/s/Hz. Proportional fairness changes the sum rate by "
        f"<b>{percent(fair / total - 1.0, 1)}</b>, the starved share from "
        f"{percent(starved_share(part.sum_rate), 1)} to "
        f"<b>{percent(starved_share(part.fair), 1)}</b> and the 5 % user from "
        f"{outage(part.sum_rate):.2f} to <b>{outage(part.fair):.2f}</b> bit/s/Hz."
    )


def wideband(outcome: Outcome) -> str:
    """On the whole band."""
    losses = ", ".join(
        f"{band.entrant.hardware} {percent(float(band.wide.mean() / band.narrow.mean()) - 1.0, 1)}"
        for band in outcome.wideband
    )
    count = len(outcome.wideband[0].narrow)
    return (
        f"{outcome.plan.tones} tones over {BANDWIDTH / 1e6:g} MHz on {count} of the drops: one "
        "analog setting serves the whole band, the digital part may differ per tone. Change of "
        f"the mean rate: {losses}. Paths turn with frequency and the steering squints; feeds are "
        "taken as flat over the band."
    )
