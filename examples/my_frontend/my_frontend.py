"""A front-end of one's own: a surface whose elements pass, block, or turn the wave by 180 degrees.

After ``pip install examples/my_frontend`` it is ``holobeam.frontends.build("my-frontend", ...)``.
"""

from holobeam.frontends import Frontend, Points, feed_positions, reference_wave


def my_frontend(array, rf_chains):
    """Surface of three-state elements (-1, 0, 1), feeds along the middle."""
    feeds = feed_positions(array, rf_chains, "line")
    wave = reference_wave(array.positions, feeds, array.wavelength)
    return Frontend(wave, Points((1.0, 0.0, -1.0)), name="my-frontend")
