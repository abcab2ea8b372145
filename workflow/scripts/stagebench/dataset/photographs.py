"""The photographs of the embedded default: each is a class of the data set `sample`.

All lie in scikit-image's wheel, in `skimage/data`, so that nothing is downloaded. Licences and sources are those that
scikit-image's documentation of `skimage.data` states; its photographs without a stated licence are left out.
"""

from __future__ import annotations

from typing import NamedTuple


class Photograph(NamedTuple):
    """A photograph: its class name, its file in `skimage/data`, what it shows, its licence and where it comes from."""

    name: str
    file: str
    title: str
    licence: str
    source: str


_CC0 = "CC0 1.0"
_PUBLIC_DOMAIN = "public domain"
_UNRESTRICTED = "no known copyright restrictions"

# The order is that of the labels: alphabetical.
PHOTOGRAPHS = (
    Photograph(
        "astronaut",
        "astronaut.png",
        "Astronaut Eileen Collins",
        _PUBLIC_DOMAIN,
        "NASA Great Images database, https://flic.kr/p/r9qvLn",
    ),
    Photograph("brick", "brick.png", "Brick wall", _CC0, "CC0Textures, https://cc0textures.com/view.php?tex=Bricks25"),
    Photograph("camera", "camera.png", "Man with a camera", _CC0, "Lav Varshney"),
    Photograph(
        "cell",
        "cell.png",
        "Cell floating in saline",
        _CC0,
        "Paul Müller et al., Optics Express 26(8), 2018, https://doi.org/10.1364/OE.26.010729",
    ),
    Photograph("chelsea", "chelsea.png", "Chelsea the cat", _CC0, "Stéfan van der Walt"),
    Photograph("clock", "clock_motion.png", "Motion-blurred clock", _PUBLIC_DOMAIN, "Stéfan van der Walt"),
    Photograph("coffee", "coffee.png", "Coffee cup", _CC0, "Rachel Michetti, courtesy of Pikolo Espresso Bar"),
    Photograph(
        "coins",
        "coins.png",
        "Greek coins from Pompeii",
        _UNRESTRICTED,
        "Brooklyn Museum, https://www.brooklynmuseum.org/opencollection/archives/image/51611",
    ),
    Photograph(
        "grass", "grass.png", "Grass", _CC0, "linolafett, https://www.deviantart.com/linolafett/art/Grass-01-434853879"
    ),
    Photograph("gravel", "gravel.png", "Gravel", _CC0, "CC0Textures, https://cc0textures.com/view.php?tex=Gravel04"),
    Photograph(
        "horse",
        "horse.png",
        "Silhouette of a horse",
        _CC0,
        "Andreas Preuss (marauder), http://openclipart.org/detail/158377/horse-by-marauder",
    ),
    Photograph(
        "hubble",
        "hubble_deep_field.jpg",
        "Hubble eXtreme Deep Field",
        _PUBLIC_DOMAIN,
        "NASA, http://hubblesite.org/newscenter/archive/releases/2012/37/image/a/",
    ),
    Photograph(
        "ihc",
        "ihc.png",
        "Colonic glands, immunohistochemical staining",
        _UNRESTRICTED,
        "Center for Microscopy And Molecular Imaging (CMMI)",
    ),
    Photograph(
        "retina",
        "retina.jpg",
        "Human retina",
        _CC0,
        "Mikael Häggström, https://commons.wikimedia.org/wiki/File:Fundus_photograph_of_normal_left_eye.jpg",
    ),
    Photograph(
        "rocket",
        "rocket.jpg",
        "Launch of DSCOVR on a Falcon 9",
        _PUBLIC_DOMAIN,
        "SpaceX, https://www.flickr.com/photos/spacexphotos/16511594820/",
    ),
    Photograph(
        "text", "text.png", "Printed text", _PUBLIC_DOMAIN, "Wikipedia, https://en.wikipedia.org/wiki/File:Corner.png"
    ),
)
