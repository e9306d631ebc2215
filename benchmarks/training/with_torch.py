"""The torch side: one run of one way; `feasible.torch` is all it knows of the library."""

from __future__ import annotations

import time

import numpy as np
import torch

import feasible
import feasible.torch
from benchmarks.training import data as d


class Predictor(torch.nn.Module):
    """A multilayer perceptron from history `(B, 11, 4)` to positions `(B, 60, 2)`, sums of predicted steps."""

    def __init__(self, way: str, seed: int) -> None:
        super().__init__()
        layers: list[torch.nn.Module] = []
        for matrix, bias in d.weights(seed, d.outputs(way)):
            linear = torch.nn.Linear(*matrix.shape)
            linear.weight.data, linear.bias.data = torch.from_numpy(matrix.T.copy()), torch.from_numpy(bias)
            layers += [linear, torch.nn.ReLU()]
        self.layers, self.way = torch.nn.Sequential(*layers[:-1]), way
        for name in ("SCALE", "CONTROL_SCALE", "START_SCALE"):
            self.register_buffer(name.lower(), torch.from_numpy(getattr(d, name)))

    def forward(self, history: torch.Tensor) -> torch.Tensor:
        """Positions `(B, 60, 2)` from history `(B, 11, 4)`."""
        out = self.layers((history / self.scale).flatten(1))
        if self.way != "decoder":
            return out.view(-1, d.FUTURE, 2).cumsum(1)
        still, speed = torch.zeros_like(out[:, :3]), history[:, -1, 3:4]
        start = torch.cat([still, speed, out[:, :2] * self.start_scale], dim=-1)
        controls = out[:, 2:].view(-1, d.FUTURE, 2) * self.control_scale
        trajectory, _ = feasible.decode(controls, start, d.VEHICLE, d.DECODED, dt=d.DT)
        return torch.stack([trajectory.x, trajectory.y], dim=-1)


def train(way: str, data: d.Split, seed: int, settings: d.Settings) -> tuple[np.ndarray, dict[str, float]]:
    """The held-out predictions `(N, 60, 2)`, and seconds per step (median), with and without the projection."""
    settings = d.shortened(way, settings)
    torch.manual_seed(seed)
    net = Predictor(way, seed)
    optimiser = torch.optim.AdamW(net.parameters(), settings.rate, weight_decay=settings.decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    average = torch.optim.swa_utils.get_ema_multi_avg_fn(settings.average)
    averaged = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=average)
    options = {"dt": d.DT}
    penalty = torch.compile(
        feasible.torch.FeasibilityLoss(d.VEHICLE, d.PHYSICAL, margin=settings.margin, **options), fullgraph=True
    )
    distance = feasible.torch.ProjectionLoss(d.VEHICLE, d.PHYSICAL, backend="riccati", **options)
    seconds: dict[str, list[float]] = {"step": [], "projection_step": []}
    for i, batch in enumerate(d.batches(data, seed, settings)):
        begun, kind = time.perf_counter(), "step"
        batch = torch.from_numpy(batch)
        prediction = net(batch[:, : d.HISTORY])
        error = prediction - batch[:, d.HISTORY :, :2]
        objective = (error.square().sum(-1) + 1e-4).sqrt().mean()
        if way == "+ loss":
            ramp = min(1.0, (i + 1) / (settings.loss_ramp * settings.steps))
            objective = objective + ramp * settings.loss_weight * penalty(prediction).mean()
        late = i >= settings.projection_from * settings.steps and i % settings.projection_every == 0
        if way == "+ projection_loss" and late:
            kind = "projection_step"
            rows = prediction[: settings.projection_rows]
            objective = objective + settings.projection_weight * distance(rows).mean()
        optimiser.zero_grad()
        objective.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), settings.clip)
        optimiser.step()
        schedule.step()
        averaged.update_parameters(net)
        seconds[kind].append(time.perf_counter() - begun)
    with torch.no_grad():
        prediction = averaged.module(torch.from_numpy(data.test[:, : d.HISTORY])).double().numpy()
    return prediction, {name: float(np.median(v)) for name, v in seconds.items() if v}
