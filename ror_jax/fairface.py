"""The network that FairFace's authors published, as an exported model that reads age group and gender.

K. Kärkkäinen, J. Joo, "FairFace", WACV 2021, github.com/joojs/fairface: torchvision's ResNet-34 in
`res34_fair_align_multi_7_20190809.pt`. Its 18 outputs are seven races, male and female, and nine age groups; it sees
dlib's face chips (padding 0.25) at 224 pixels, normalised as ImageNet's images (predict.py of
github.com/dchen236/FairFace). Race is left out: this program reads it from nobody. The files `..._multi_4_...` and
`..._4race_...` have the same form, but nothing but race is read from them there.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from flax import nnx

from input_pipeline.age_groups import FAIRFACE
from input_pipeline.alignment import LANDMARKS
from input_pipeline.datasets.faces import GENDERS
from input_pipeline.detection import DETECTOR
from ror_jax.errors import UserError
from ror_jax.files import replace_text
from ror_jax.models import describe_network
from ror_jax.models.pretrained import IMAGENET_MEAN, blank_model, load_state_dict
from ror_jax.models.weights import save_weights
from ror_jax.predict.faces import Preprocessing
from ror_jax.predict.model import check_output, clear_output, save_model_card
from ror_jax.report.model_card import FAILURES, FORBIDDEN
from ror_jax.report.page import Section, to_markdown

NETWORK, SIZE = "resnet34", 224  # pixels
OUTPUTS = 18
ROWS = {"age_group": [*range(9, 18)], "gender": [8, 7]}  # of the prediction layer, in the order of our classes
LICENCE = "CC BY 4.0"
ATTRIBUTION = "K. Kärkkäinen, J. Joo, FairFace, WACV 2021, github.com/joojs/fairface; outputs for race are left out"


def write_fairface_model(state: Mapping[str, np.ndarray], source: Mapping[str, str], output: Path) -> None:
    """Writes an exported model into the folder `output`.

    Args:
      state: arrays by PyTorch's names.
      source: what `model.json` says of their file.

    Raises:
      UserError: they are not FairFace's, or `output` holds something else.
    """
    network = blank_model(NETWORK, {name: len(rows) for name, rows in ROWS.items()})
    width = network.backbone.maps["last"].width
    for name, shape in {"fc.weight": (OUTPUTS, width), "fc.bias": (OUTPUTS,)}.items():
        if np.shape(state.get(name)) != shape:
            found = f"{name} is {list(state[name].shape)}" if name in state else f"there is no {name}"
            raise UserError(f"{source['file']} is not FairFace's: {found}; with {OUTPUTS} outputs it is {list(shape)}")
    load_state_dict(network, state)
    for name, rows in ROWS.items():
        nnx.update(network.heads[name], {"kernel": state["fc.weight"][rows].T, "bias": state["fc.bias"][rows]})

    preprocessing = Preprocessing(
        size=SIZE,
        resize=SIZE,
        fit="crop",
        fill=list(IMAGENET_MEAN),
        visible=[1.0, 1.0],
        landmarks={DETECTOR: LANDMARKS.tolist()},  # which were measured on FairFace's images
        landmarks_from={},
    )
    card = describe_network(NETWORK, {}, network) | {
        "name": "fairface",
        "source": dict(source),
        "task": {"name": "+".join(ROWS)},
        "task_state": {},
        "labels": {"age_group": FAIRFACE.names, "gender": GENDERS},
        "preprocessing": dataclasses.asdict(preprocessing),
        "views": "single",
        "intervals": {},
        "licence": LICENCE,
        "attribution": ATTRIBUTION,
    }
    check_output(output)
    clear_output(output)
    _, params, batch_stats = nnx.split(network, nnx.Param, nnx.BatchStat)
    save_weights(output, nnx.to_pure_dict(params), nnx.to_pure_dict(batch_stats), card)
    save_model_card(output, card)
    words = f"Reads age group and gender from faces. Network: {NETWORK}, from {source['file']} of FairFace's authors."
    sections = [
        Section("fairface", [words, f"Licence: {LICENCE}. Attribution: {ATTRIBUTION}."]),
        Section("What it must not be used for", [FORBIDDEN]),
        Section("Known failures", [FAILURES]),
    ]
    replace_text(output / "README.md", to_markdown(sections, output))
