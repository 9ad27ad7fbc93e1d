"""How training scripts lay out raw and averaged weights in a file: wrappers and prefixes."""

import torch

PREFIXES = {
    "none": "",
    "DataParallel": "module.",
    "compiled": "_orig_mod.",
    "compiled in DataParallel": "module._orig_mod.",
    "DataParallel in compiled": "_orig_mod.module.",
    "FSDP": "_fsdp_wrapped_module.",
    "model": "model.",
    "DataParallel in a model": "model.module.",
    "compiled in a net": "net._orig_mod.",
    "model of a diffusion": "diffusion.model.",
    "three deep": "module.learner.unet._orig_mod.",
}


def prefixed(state, prefix):
    return {f"{prefix}{name}": value for name, value in state.items()}


def dotless(state):
    return {name.replace(".", ""): value for name, value in state.items()}


def optimizer(state):
    moments = {i: {"exp_avg": v, "exp_avg_sq": v} for i, v in enumerate(state.values())}
    return {"state": moments, "param_groups": [{"lr": 1e-4, "params": [*moments]}]}


def _list(average):
    return [value.clone() for value in average.values()]


def _flat(raw, average, ours, theirs):
    return {**prefixed(raw, ours), **prefixed(average, theirs)}


# Of (raw, average, worse): a shorter average or other weights that must not be taken.
AVERAGED = {
    "ema": lambda r, a, w: {"model": r, "ema": a},
    "ema first": lambda r, a, w: {"ema": a, "model": r, "step": 7},
    "model_ema": lambda r, a, w: {"model": r, "model_ema": a, "optimizer": optimizer(w)},
    "ema_model": lambda r, a, w: {"net": r, "ema_model": a},
    "ema_state_dict": lambda r, a, w: {"state_dict": r, "ema_state_dict": a},
    "state_dict_ema": lambda r, a, w: {"state_dict": r, "state_dict_ema": a},
    "params_ema": lambda r, a, w: {"params": r, "params_ema": a},
    "ema_params": lambda r, a, w: {"params": r, "ema_params": a},
    "modelEMA": lambda r, a, w: {"model": r, "modelEMA": a, "ema_optimizer": optimizer(w)},
    "shadow dict": lambda r, a, w: {"model": r, "ema": {"decay": 0.999, "shadow": a}},
    "nested state_dict": lambda r, a, w: {"model": r, "ema": {"state_dict": a, "updates": 9}},
    "nested module": lambda r, a, w: {"state": {"model": r}, "ema": {"module": a}},
    "under checkpoint": lambda r, a, w: {"checkpoint": {"model": r, "ema": a}, "args": {}},
    "average only": lambda r, a, w: {"ema": a, "optimizer": optimizer(w)},
    "shadow_params": lambda r, a, w: {
        "model": r,
        "ema": {
            "decay": 0.999,
            "num_updates": 5,
            "shadow_params": _list(a),
            "collected_params": None,
        },
    },
    "shadow_params at the top": lambda r, a, w: {"model": r, "shadow_params": _list(a)},
    "AveragedModel": lambda r, a, w: {
        "model": r,
        "swa_model": {"n_averaged": torch.tensor(9), **prefixed(a, "module.")},
    },
    "AveragedModel alone": lambda r, a, w: {
        "n_averaged": torch.tensor(9),
        **prefixed(a, "module."),
    },
    "averaged_model": lambda r, a, w: {
        "state_dict": r,
        "averaged_model": {"n_averaged": torch.tensor(3), **prefixed(a, "module.")},
    },
    "Lightning, ema_model.": lambda r, a, w: {
        "state_dict": _flat(r, a, "model.", "ema_model."),
        "optimizer_states": [optimizer(w)],
        "pytorch-lightning_version": "2.0",
    },
    "Lightning, net_ema.": lambda r, a, w: {"state_dict": _flat(r, a, "net.", "net_ema.")},
    "Lightning, ema.module.": lambda r, a, w: {"state_dict": _flat(r, a, "model.", "ema.module.")},
    "latent-diffusion's copy": lambda r, a, w: {
        "state_dict": {
            **prefixed(r, "model."),
            **prefixed(dotless(a), "model_ema."),
            "model_ema.decay": torch.tensor(0.9999),
            "model_ema.num_updates": torch.tensor(100),
        }
    },
    "ema_pytorch": lambda r, a, w: {
        "model": r,
        "ema": {
            "initted": torch.tensor(True),
            "step": torch.tensor(10),
            **_flat(r, a, "online_model.", "ema_model."),
        },
    },
    "two decays": lambda r, a, w: {"model": r, "ema_0.999": w, "ema_0.9999": a},
    "two decays below": lambda r, a, w: {"model": r, "ema": {"0.9999": a, "0.99": w}},
    "two decays in nines": lambda r, a, w: {"model": r, "ema_999": w, "ema_9999": a},
    "list with rates": lambda r, a, w: {"model": r, "ema": [w, a], "ema_rates": [0.99, 0.9999]},
    "list with a text of rates": lambda r, a, w: {"net": r, "ema": [a, w], "ema_rate": "0.999,0.9"},
    "list of pairs": lambda r, a, w: {"model": r, "emas": [(0.9999, a), (0.99, w)]},
    "list of dicts": lambda r, a, w: {
        "model": r,
        "ema": [{"decay": 0.9, "shadow": w}, {"decay": 0.999, "shadow": a}],
    },
    "flat decays": lambda r, a, w: {
        **prefixed(r, "net."),
        **prefixed(w, "ema_0.99."),
        **prefixed(a, "ema_0.9999."),
    },
}

# Without an average, or with something that only looks like one.
RAW = {
    "bare": lambda r, w: r,
    "model": lambda r, w: {"model": r, "epoch": 3},
    "state_dict": lambda r, w: {"state_dict": r, "optimizer": optimizer(w)},
    "ema is a number": lambda r, w: {"model": r, "ema": 0.9999, "ema_decay": 0.9},
    "ema is empty": lambda r, w: {"model": r, "ema": {}, "model_ema": None},
    "ema is an optimizer": lambda r, w: {"net": r, "ema": optimizer(w)},
    "ema has numbers only": lambda r, w: {"model": r, "ema": {"decay": 0.9, "updates": 3}},
    "two deep": lambda r, w: {"checkpoint": {"network": r}},
    "optimizer first": lambda r, w: {"opt": optimizer(w), "weights": r},
}
