"""Files to batches and back: every format and shape, every bad input, and that a bad row costs no other row."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feasible import io
from feasible._trajectory import Trajectory

N, T = 5, 6


@pytest.fixture
def values():
    steps = np.arange(1, T + 1)[None, :, None] * np.array([1.0, 0.25])
    return steps + 10.0 * np.arange(N)[:, None, None] + np.random.default_rng(0).normal(0, 0.1, (N, T, 2))


def full(values, dt=0.1):
    """A trajectory with all four columns and a missing sample in row 2."""
    wide = np.concatenate([values, values[..., :1] * 0.01, values[..., 1:] + 3.0], axis=-1)
    wide[2, 1] = np.nan
    return Trajectory.from_array(wide, dt=dt, columns=("x", "y", "yaw", "speed"))


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def table(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def lines(path, *rows):
    path.write_text("\n".join(rows) + "\n")
    return path


def points(ident, *, n=T, dt=0.1, start=0.0):
    return [f"{ident},{round(start + k * dt, 6)},{k}.5,{2 * k}" for k in range(n)]


def fails(pattern, path, **options):
    with pytest.raises(io.InputError, match=pattern) as caught:
        io.read(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert isinstance(caught.value, ValueError)
    return message


# --- round trips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ids", [np.array([7, 3, 9, 1, 2]), np.array(["b", "a", "d/1", "c,x", 'q"é'])], ids=["int", "str"]
)
@pytest.mark.parametrize("suffix", [".parquet", ".npz", ".csv"])
def test_round_trip_keeps_ids_order_values_and_mask(tmp_path, values, suffix, ids):
    before = full(values)
    extra = {"status": np.array(["a", "", "b", "c", "d"]), "cost": np.arange(5.0), "iterations": np.arange(5)}
    path = tmp_path / f"out{suffix}"
    io.write_table(path, ids, np.array([0, 1, 0, 0, 2]), before, extra)
    after = io.read(path)
    assert after.ids.tolist() == ids.tolist()
    assert after.ids.dtype.kind == ids.dtype.kind
    assert after.mode.tolist() == [0, 1, 0, 0, 2]
    assert after.trajectory.dt == pytest.approx(0.1)
    assert after.trajectory.columns == before.columns
    assert after.lengths is None
    np.testing.assert_array_equal(after.trajectory.valid, before.valid)
    for name in before.columns:
        np.testing.assert_array_equal(getattr(after.trajectory, name), getattr(before, name))
    assert not after.quarantined


def test_npy_holds_the_values_only(tmp_path, values):
    before = full(values)
    io.write_table(tmp_path / "out.npy", np.arange(N), np.zeros(N, int), before)
    after = io.read(tmp_path / "out.npy", dt=0.1, columns="x,y,yaw,speed")
    np.testing.assert_array_equal(after.trajectory.speed, before.speed)
    np.testing.assert_array_equal(after.trajectory.valid, before.valid)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_padding_is_not_written(tmp_path, values, suffix):
    values[1, 4:] = np.nan
    lengths = np.array([T, 4, T, T, T])
    path = tmp_path / f"out{suffix}"
    trajectory = Trajectory.from_array(values, dt=0.2)
    io.write_table(path, np.arange(N), np.zeros(N, int), trajectory, lengths=lengths)
    after = io.read(path)
    np.testing.assert_array_equal(after.lengths, lengths)
    np.testing.assert_array_equal(after.trajectory.x, trajectory.x)
    np.testing.assert_array_equal(after.trajectory.valid, trajectory.valid)


@pytest.mark.parametrize("suffix", [".parquet", ".npz", ".csv"])
def test_batches_written_one_by_one_make_one_file(tmp_path, values, suffix):
    path = tmp_path / f"out{suffix}"
    names = np.array(["a", "bbb", "c", "dd", "e"])
    with io.open_table(path) as sink:
        for part in (slice(0, 2), slice(2, 5)):
            sink.write(names[part], np.zeros(N, int)[part], Trajectory.from_array(values[part], dt=0.1))
    batch = io.read(path)
    assert batch.ids.tolist() == names.tolist()
    np.testing.assert_array_equal(batch.trajectory.to_array(), values)


def test_parquet_lists_are_of_fixed_size_and_carry_the_extra_columns(tmp_path, values):
    path = tmp_path / "out.parquet"
    io.write_table(path, np.arange(N), np.zeros(N, int), Trajectory.from_array(values, dt=0.1), {"status": ["ok"] * N})
    schema = pq.read_schema(path)
    assert schema.field("x").type == pa.list_(pa.float64(), T)
    assert pq.read_table(path)["status"].to_pylist() == ["ok"] * N


# --- what the formats may look like ----------------------------------------------------------------------------------


def parquet_variants(values):
    lists = values.tolist()
    flat = [np.reshape(v, -1).tolist() for v in lists]
    float32 = values.astype(np.float32)
    return {
        "tensor": {"trajectory": pa.FixedShapeTensorArray.from_numpy_ndarray(values)},
        "tensor float32": {"any_name": pa.FixedShapeTensorArray.from_numpy_ndarray(float32)},
        "nested": {"pred": pa.array(lists)},
        "fixed": {"pred": pa.array(lists, pa.list_(pa.list_(pa.float64(), 2), T))},
        "large": {"pred": pa.array(lists, pa.large_list(pa.large_list(pa.float64())))},
        "axes": {"x": pa.array(values[..., 0].tolist()), "y": pa.array(values[..., 1].tolist())},
        "fixed axes": {
            "x": pa.array(values[..., 0].tolist(), pa.list_(pa.float64(), T)),
            "y": pa.array(values[..., 1].tolist(), pa.list_(pa.float64(), T)),
        },
        "permuted tensor": {
            "pred": pa.ExtensionArray.from_storage(
                pa.fixed_shape_tensor(pa.float64(), (2, T), permutation=[1, 0]),
                pa.array([np.reshape(np.transpose(v), -1).tolist() for v in values], pa.list_(pa.float64(), 2 * T)),
            )
        },
        "tensor with dim names": {
            "pred": pa.ExtensionArray.from_storage(
                pa.fixed_shape_tensor(pa.float64(), (T, 2), dim_names=["time", "axis"]),
                pa.array(flat, pa.list_(pa.float64(), 2 * T)),
            )
        },
    }


@pytest.mark.parametrize("variant", list(parquet_variants(np.zeros((1, T, 2)))))
@pytest.mark.parametrize("batch_rows", [None, 2])
def test_parquet_columns_of_every_kind(tmp_path, values, variant, batch_rows):
    path = table(tmp_path / "in.parquet", **parquet_variants(values)[variant], id=pa.array(list("abcde")))
    batches = list(io.read_batches(path, dt=0.1, batch_rows=batch_rows))
    assert [ident for batch in batches for ident in batch.ids.tolist()] == list("abcde")
    got = np.concatenate([batch.trajectory.to_array() for batch in batches])
    np.testing.assert_allclose(got, values, rtol=1e-6 if "float32" in variant else 0)


def test_av2_submission_parquet(tmp_path, values):
    path = table(
        tmp_path / "submission.parquet",
        scenario_id=["s1", "s1", "s1", "s1", "s2"],
        track_id=["7", "7", "8", "8", "7"],
        probability=[0.6, 0.4, 0.5, 0.5, 1.0],
        predicted_trajectory_x=values[..., 0].tolist(),
        predicted_trajectory_y=values[..., 1].tolist(),
    )
    batches = list(io.read_batches(path, dt=0.1, batch_rows=1))
    assert [b.ids[0] for b in batches] == ["s1/7", "s1/7", "s1/8", "s1/8", "s2/7"]
    assert [int(b.mode[0]) for b in batches] == [0, 1, 0, 1, 0]
    assert [float(b.carried["probability"][0]) for b in batches] == [0.6, 0.4, 0.5, 0.5, 1.0]
    assert [str(b.carried["track_id"][0]) for b in batches] == ["7", "7", "8", "8", "7"]
    np.testing.assert_array_equal(np.concatenate([b.trajectory.x for b in batches]), values[..., 0])


def test_av2_submission_csv_one_line_per_point(tmp_path, values):
    rows = ["scenario_id,track_id,probability,predicted_trajectory_x,predicted_trajectory_y"]
    for k, probability in enumerate([0.6, 0.4]):
        rows += [f"s1,7,{probability},{x!r},{y!r}" for x, y in values[k].tolist()]
    batch = io.read(lines(tmp_path / "submission.csv", *rows), dt=0.1)
    assert batch.ids.tolist() == ["s1/7", "s1/7"]
    assert batch.mode.tolist() == [0, 1]
    assert batch.carried["probability"].tolist() == [0.6, 0.4]
    np.testing.assert_array_equal(batch.trajectory.to_array(), values[:2])


def test_csv_modes_of_one_probability_are_not_taken_for_one_long_trajectory(tmp_path):
    rows = ["track_id,probability,x,y", *[f"a,0.3,{k},0" for k in range(T)], *[f"b,0.5,{k},0" for k in range(2 * T)]]
    batch = io.read(lines(tmp_path / "in.csv", *rows), dt=0.1)
    assert batch.ids.tolist() == ["a"]
    (problem,) = batch.quarantined
    assert problem.id == "b"
    assert "a 'mode' column would part them" in problem.what


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".parquet"])
def test_modes_are_laid_one_after_another(tmp_path, values, suffix):
    modes = np.stack([values, values + 100, values + 200], axis=1)  # (N, 3, T, 2)
    path = tmp_path / f"in{suffix}"
    if suffix == ".npz":
        state = np.arange(4.0 * N).reshape(N, 4)
        save(path, pred=modes, ids=np.array(list("abcde")), initial_state=state, dt=0.1)
    elif suffix == ".npy":
        np.save(path, modes)
    else:
        table(path, pred=pa.array(modes.tolist()), id=list("abcde"))
    batches = list(io.read_batches(path, dt=0.1, batch_rows=6))
    assert [len(batch) for batch in batches] == [6, 6, 3]
    assert {batch.modes for batch in batches} == {3}
    assert {batch.total for batch in batches} == {15}
    assert batches[1].mode.tolist() == [0, 1, 2, 0, 1, 2]
    expected = [2, 2, 2, 3, 3, 3] if suffix == ".npy" else list("cccddd")
    assert batches[1].ids.tolist() == expected
    got = np.concatenate([batch.trajectory.to_array() for batch in batches])
    np.testing.assert_array_equal(got, modes.reshape(-1, T, 2))
    if suffix == ".npz":
        np.testing.assert_array_equal(batches[0].initial_state[:, 0], [0, 0, 0, 4, 4, 4])


@pytest.mark.parametrize("key", ["pred", "values", "trajectory", "my_own_name"])
def test_npz_keys(tmp_path, values, key):
    path = save(tmp_path / "in.npz", **{key: values.astype(np.float32)}, dt=0.1, meta=np.array("about"))
    batch = io.read(path)
    assert batch.ids.tolist() == [0, 1, 2, 3, 4]
    assert batch.trajectory.x.dtype == np.float32
    assert batch.initial_state is None


def test_columns_choose_and_order(tmp_path, values):
    path = save(tmp_path / "in.npz", pred=np.concatenate([values[..., ::-1], values[..., :1]], -1), other=values)
    batch = io.read(path, dt=0.1, columns=("y", "x", "speed"))
    np.testing.assert_array_equal(batch.trajectory.x, values[..., 0])
    np.testing.assert_array_equal(batch.trajectory.speed, values[..., 0])
    np.testing.assert_array_equal(io.read(path, dt=0.1, columns="values=other").trajectory.y, values[..., 1])


def test_csv_names_order_and_interleaved_points(tmp_path):
    rows = ["east,north,who,when,note"]
    for k in range(4):
        rows += [f"{k},{-k},007,{k * 0.5},a", f"{10 + k},{k},008,{k * 0.5},b"]
    batch = io.read(lines(tmp_path / "in.csv", *rows), columns="y=north,x=east,id=who,time=when")
    assert batch.ids.tolist() == ["007", "008"]
    assert batch.trajectory.dt == 0.5
    np.testing.assert_array_equal(batch.trajectory.x, [[0, 1, 2, 3], [10, 11, 12, 13]])
    np.testing.assert_array_equal(batch.trajectory.y, [[0, -1, -2, -3], [0, 1, 2, 3]])


def test_csv_unequal_lengths_are_padded(tmp_path):
    rows = ["id,time,x,y", *points("a", n=4), *points("b", n=7), *points("c", n=5)]
    batches = list(io.read_batches(lines(tmp_path / "in.csv", *rows), batch_rows=2))
    assert [b.trajectory.horizon for b in batches] == [7, 7]
    assert np.concatenate([b.lengths for b in batches]).tolist() == [4, 7, 5]
    assert batches[0].trajectory.valid.sum(axis=-1).tolist() == [4, 7]


@pytest.mark.parametrize("name", ["timestep", "frame"])
def test_csv_counts_need_dt_and_find_missing_samples(tmp_path, name):
    rows = [f"id,{name},x,y", *points("a", dt=1), *points("b", dt=1)[:3], *points("b", dt=1)[4:]]
    path = lines(tmp_path / "in.csv", *rows)
    fails("does not say its time step", path)
    batch = io.read(path, dt=0.1)
    assert batch.ids.tolist() == ["a"]
    assert "the 4th sample comes 2 after the one before it, expected 1" in batch.quarantined[0].what


def test_csv_nanoseconds(tmp_path):
    start = 315_969_904_359_876_000
    rows = ["track_id,timestamp_ns,x,y", *[f"a,{start + k * 100_000_000},{k},0" for k in range(T)]]
    assert io.read(lines(tmp_path / "in.csv", *rows)).trajectory.dt == pytest.approx(0.1)


def test_initial_states(tmp_path, values):
    state = np.arange(6.0 * N).reshape(N, 6)
    state[1, 4:] = np.nan  # not known, to be estimated
    path = save(tmp_path / "in.npz", pred=values, state0=state[:, :4], initial_state=state, dt=0.1)
    np.testing.assert_array_equal(io.read(path).initial_state, state)
    np.testing.assert_array_equal(io.read(path, initial_state="state0").initial_state, state[:, :4])
    assert io.read(path, initial_state=()).initial_state is None
    names = {name: state[:, i] for i, name in enumerate(("x0", "y0", "yaw0", "v0"))}
    axes = {"x": values[..., 0].tolist(), "y": values[..., 1].tolist()}
    path = table(tmp_path / "in.parquet", **axes, **names, initial_state=[*state[:4].tolist(), None])
    np.testing.assert_array_equal(io.read(path, dt=0.1, initial_state=list(names)).initial_state, state[:, :4])
    got = io.read(path, dt=0.1).initial_state
    np.testing.assert_array_equal(got[:4], state[:4])
    assert np.isnan(got[4]).all()
    rows = ["id,time,x,y,a,b,c,d", *[f"{row},1,2,3,4" for row in points("q")]]
    got = io.read(lines(tmp_path / "in.csv", *rows), initial_state=list("abcd")).initial_state
    assert got.tolist() == [[1, 2, 3, 4]]


def test_center_moves_samples_and_initial_state(tmp_path, values):
    class Vehicle:
        rear_axle_to_center = 1.5

    wide = np.concatenate([values, np.zeros((N, T, 1))], axis=-1)
    path = save(tmp_path / "in.npz", pred=wide, initial_state=np.ones((N, 4)) * [5, 5, np.pi / 2, 1], dt=0.1)
    batch = io.read(path, columns="x,y,yaw", reference_point="center", vehicle=Vehicle())
    np.testing.assert_allclose(batch.trajectory.x, values[..., 0] - 1.5)
    np.testing.assert_allclose(batch.initial_state[0], [5, 3.5, np.pi / 2, 1])


def test_far_coordinates_stay_exact(tmp_path, values):
    far = values + np.array([5e5, 4e6])
    np.testing.assert_array_equal(io.read(save(tmp_path / "in.npz", pred=far, dt=0.1)).trajectory.to_array(), far)


# --- bad rows: named, left out, and nothing else is lost -------------------------------------------------------------


def test_non_finite_samples_are_data(tmp_path, values):
    values[0, 2, 0], values[1, 3, 1], values[3] = np.nan, np.inf, np.nan
    batch = io.read(save(tmp_path / "in.npz", pred=values, dt=0.1))
    assert len(batch) == N
    assert not batch.quarantined
    assert batch.trajectory.valid.sum(axis=-1).tolist() == [T - 1, T - 1, T, 0, T]
    assert np.isfinite(batch.trajectory.to_array()).all()


CSV_PROBLEMS = {
    "not a number": (["b,0,0,0", "b,0.1,oops,0", "b,0.2,1,1", "b,0.3,1,1"], 9, "x", "got 'oops', expected a number"),
    "missing cell": (["b,0,0,0", "b,0.1,0", "b,0.2,1,1", "b,0.3,1,1"], 9, None, "has 3 cells, expected 4 as in the"),
    "too short": (points("b", n=3), 8, None, "has 3 samples, expected at least 4"),
    "gap": (points("b", n=3) + points("b", start=0.4), 11, "time", "4th sample comes 0.2 after the one before it, exp"),
    "backwards": (points("b", dt=-0.1), 9, "time", "expected a later time"),
    "another dt": (points("b", dt=0.2), 8, "time", "its samples are 0.2 apart, expected 0.1 as in the others"),
    "no time": ([*points("b"), "b,,0,0"], 14, "time", "the 7th sample has no time"),
}


@pytest.mark.parametrize("case", CSV_PROBLEMS)
def test_a_bad_csv_trajectory_costs_no_other(tmp_path, case):
    bad, line, column, message = CSV_PROBLEMS[case]
    rows = ["id,time,x,y", *points("a"), *bad, *points("c"), ",0.0,1,1", *points("d")]
    path = lines(tmp_path / "in.csv", *rows)
    batch = io.read(path)
    assert batch.ids.tolist() == ["a", "c", "d"]
    np.testing.assert_array_equal(batch.trajectory.x[1], np.arange(T) + 0.5)
    problem, stray = batch.quarantined
    assert (problem.id, problem.row, problem.column) == ("b", line, column)
    assert message in problem.what
    assert str(problem).startswith(f"{path}, line {line} (id 'b')")
    assert "is empty, expected an id" in str(stray)


def test_bad_parquet_rows_cost_no_other(tmp_path):
    good = [float(k) for k in range(T)]
    path = table(
        tmp_path / "in.parquet",
        id=["ok1", "null", "short", "unequal", None, "gap", "longer", "ok2"],
        x=[good, None, good[:3], good, good, [0.0, None, 2.0, 3.0], [*good, 9.0], good],
        y=[good, good, good[:3], good[:5], good, [0.0, 1.0, 2.0, 3.0], [*good, 9.0], good],
    )
    for batch_rows in (None, 3):
        batches = list(io.read_batches(path, dt=0.1, batch_rows=batch_rows))
        assert [i for b in batches for i in b.ids.tolist()] == ["ok1", "gap", "longer", "ok2"]
        assert [n for b in batches for n in b.lengths.tolist()] == [6, 4, 7, 6]
        assert [n for b in batches for n in b.trajectory.valid.sum(-1).tolist()] == [6, 3, 7, 6]
        problems = [p for b in batches for p in b.quarantined]
        assert [(p.row, p.column) for p in problems] == [(1, "x"), (2, "x"), (3, "y"), (4, "id")]
        assert "is missing, expected a list" in problems[0].what
        assert "has 3 samples, expected at least 4" in problems[1].what
        assert "has 5 samples where 'x' has 6, expected as many" in problems[2].what
        assert problems[3].id is None


def test_bad_nested_parquet_rows_cost_no_other(tmp_path):
    good = [[float(k), 1.0] for k in range(T)]
    path = table(tmp_path / "in.parquet", pred=[good, None, [*good[:-1], [1.0]], good[:2], good], id=[4, 3, 2, 1, 0])
    batch = io.read(path, dt=0.1)
    assert batch.ids.tolist() == [4, 0]
    assert [p.row for p in batch.quarantined] == [1, 2, 3]
    assert "has a sample of 1 numbers, expected 2 for x,y" in batch.quarantined[1].what
    assert batch.quarantined[2].to_dict()["id"] == 1
    np.testing.assert_array_equal(batch.trajectory.to_array(), [good, good])


def test_null_tensor_rows(tmp_path, values):
    storage = pa.array(
        [None if k == 1 else v.reshape(-1).tolist() for k, v in enumerate(values)], pa.list_(pa.float64(), 12)
    )
    tensor = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float64(), (T, 2)), storage)
    batch = io.read(table(tmp_path / "in.parquet", pred=tensor), dt=0.1)
    assert batch.ids.tolist() == [0, 2, 3, 4]
    np.testing.assert_array_equal(batch.trajectory.to_array(), values[[0, 2, 3, 4]])


def test_a_bad_initial_state_costs_its_row_only(tmp_path, values):
    states = [[0.0] * 4, [0.0] * 3, [0.0] * 4, [0.0] * 6, [0.0] * 4]
    axes = {"x": values[..., 0].tolist(), "y": values[..., 1].tolist()}
    batch = io.read(table(tmp_path / "in.parquet", **axes, initial_state=states), dt=0.1)
    assert batch.ids.tolist() == [0, 2, 3, 4]
    assert batch.initial_state.shape == (4, 6)
    assert "has 3 numbers, expected 4 (x, y, yaw, speed) or 6" in batch.quarantined[0].what


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".csv"])
def test_half_an_initial_position_costs_its_row_only(tmp_path, values, suffix):
    state = np.zeros((N, 4))
    state[1, 0], state[3, :2] = np.nan, np.nan
    path = tmp_path / f"in{suffix}"
    if suffix == ".npz":
        save(path, pred=values, initial_state=state)
    elif suffix == ".parquet":
        table(path, x=values[..., 0].tolist(), y=values[..., 1].tolist(), initial_state=state.tolist())
    else:
        cells = [",".join(map(str, row)) for row in state]
        rows = [f"{i},{k},{x},{y},{cells[i]}" for i in range(N) for k, (x, y) in enumerate(values[i])]
        lines(path, "id,step,x,y,x0,y0,yaw0,v0", *rows)
    names = ["x0", "y0", "yaw0", "v0"] if suffix == ".csv" else None
    batch = io.read(path, dt=0.1, initial_state=names)
    assert batch.ids.tolist() == [0, 2, 3, 4]
    assert np.isnan(batch.initial_state[2, :2]).all()
    assert "gives only one of x and y, expected both" in batch.quarantined[0].what


def test_problems_of_pieces_without_a_good_row_are_kept(tmp_path):
    good = [float(k) for k in range(T)]
    path = table(tmp_path / "in.parquet", x=[None, good, None, good, None], y=[good] * 5)
    batches = list(io.read_batches(path, dt=0.1, batch_rows=1))
    assert [b.ids.tolist() for b in batches] == [[1], [3], []]
    assert [[p.row for p in b.quarantined] for b in batches] == [[0], [2], [4]]
    assert batches[-1].trajectory.batch_shape == (0,)


# --- bad files: one sentence -----------------------------------------------------------------------------------------


def test_files_that_are_not_there_or_not_ours(tmp_path, values):
    fails("nowhere.npz: does not exist, expected a file", tmp_path / "nowhere.npz", dt=0.1)
    fails(r"in.mat: got .mat, expected a file that ends in .npz, .npy, .csv, .parquet", tmp_path / "in.mat", dt=0.1)
    fails("is a folder", Path(tmp_path / "folder.npz").mkdir() or tmp_path / "folder.npz", dt=0.1)
    for suffix in (".npz", ".npy", ".csv", ".parquet"):
        (tmp_path / f"empty{suffix}").write_bytes(b"")
        fails(r"is empty \(0 bytes\), expected trajectories", tmp_path / f"empty{suffix}", dt=0.1)


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".parquet"])
@pytest.mark.parametrize("damage", ["truncated", "garbage"])
def test_damaged_files(tmp_path, values, suffix, damage):
    path = tmp_path / f"in{suffix}"
    many = np.tile(values, (40, 1, 1))
    trajectory = Trajectory.from_array(many, dt=0.1)
    io.write_table(path, np.arange(len(many)), np.zeros(len(many), int), trajectory)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage == "truncated" else b"this is a text\n" * 9)
    message = fails("expected a whole|Python objects", path, dt=0.1)
    assert message.startswith(str(path))


def test_parquet_damaged_inside(tmp_path, values):
    path = tmp_path / "in.parquet"
    io.write_table(path, np.arange(N), np.zeros(N, int), Trajectory.from_array(values, dt=0.1))
    whole = bytearray(path.read_bytes())
    whole[4:400] = b"\xff" * 396
    path.write_bytes(bytes(whole))
    fails("is damaged or no parquet file .*; expected a whole one", path)


def test_dt(tmp_path, values):
    path = save(tmp_path / "in.npz", pred=values)
    fails("does not say its time step; give it as dt, in seconds", path)
    for dt in (0, -0.1, float("nan"), float("inf")):
        fails("dt: expected a positive number of seconds, got", path, dt=dt)
    path = save(tmp_path / "stated.npz", pred=values, dt=0.1)
    fails("got dt 0.2 s, but array 'dt' says 0.1 s", path, dt=0.2)
    assert io.read(path, dt=0.1).trajectory.dt == 0.1
    fails("array 'dt' gives a time step of -1 s", save(tmp_path / "negative.npz", pred=values, dt=-1.0))
    fails(r"array 'dt' has shape \(2,\)", save(tmp_path / "two.npz", pred=values, dt=[0.1, 0.2]))
    csv = lines(tmp_path / "in.csv", "id,time,x,y", *points("a"))
    fails("got dt 0.2 s, but column 'time' says 0.1 s; leave dt out", csv, dt=0.2)


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".parquet"])
def test_shapes(tmp_path, values, suffix):
    def write(array, name):
        path = tmp_path / f"{name}{suffix}"
        if suffix == ".npz":
            return save(path, pred=array)
        if suffix == ".npy":
            np.save(path, array)
            return path
        return table(path, pred=pa.array(array.tolist()))

    fails("has 3 samples, expected at least 4", write(values[:, :3], "short"), dt=0.1)
    wide = write(np.concatenate([values, values], -1), "wide")
    fails("has a last axis of 4, expected 2 for x,y; columns says what else it holds", wide, dt=0.1)
    fails("has a last axis of 4, expected 3 for x,y,yaw$", wide, dt=0.1, columns="x,y,yaw")
    if suffix != ".parquet":
        flat = write(values[0], "flat")
        fails(r"has shape \(6, 2\), expected \(N, T, D\) or \(N, K, T, D\)", flat, dt=0.1)
        fails(r"is empty, of shape \(0, 6, 2\); expected at least one", write(values[:0], "none"), dt=0.1)
        fails("has dtype <U.*, expected numbers", write(values.astype(str), "text"), dt=0.1)
        objects = np.empty(2, dtype=object)
        objects[:] = [values[0], values[1, :4]]
        fails("holds Python objects.*pad rows of unequal length with NaN", write(objects, "objects"), dt=0.1)


def test_npz_contents(tmp_path, values):
    ids = np.arange(N)
    fails("has no column 'state0'; it has pred", save(tmp_path / "a.npz", pred=values), dt=0.1, initial_state="state0")
    fails("has no column 'other'; it has pred", tmp_path / "a.npz", dt=0.1, columns="values=other")
    fails(r"array 'ids' has shape \(4,\), expected \(5,\)", save(tmp_path / "b.npz", pred=values, ids=ids[:4]), dt=0.1)
    fails("called pred, .*got a, b; name it", save(tmp_path / "c.npz", a=values, b=values), dt=0.1)
    fails("ids has dtype float64", save(tmp_path / "d.npz", pred=values, ids=ids * 0.5), dt=0.1)
    state = save(tmp_path / "e.npz", pred=values, initial_state=np.zeros((N, 5)))
    fails(r"array 'initial_state' has shape \(5, 5\).*expected \(5, 4\) numbers", state, dt=0.1)
    np.save(tmp_path / "one.npy", values)
    fails("a .npy has one array and no names", tmp_path / "one.npy", dt=0.1, initial_state="state0")
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    fails("holds a single array, not named ones", tmp_path / "one.npz", dt=0.1)


def test_csv_contents(tmp_path):
    fails("found no column for y .*it has id, x", lines(tmp_path / "a.csv", "id,x", "a,1"), dt=0.1)
    fails("found no column that names the trajectory", lines(tmp_path / "b.csv", "x,y", "1,1"), dt=0.1)
    fails("has a header and no points", lines(tmp_path / "c.csv", "id,x,y"), dt=0.1)
    path = lines(tmp_path / "d.csv", "id,time,x,y", *points("a"))
    fails("has no column 'east'; it has id, time, x, y", path, columns="x=east,y")
    fails("found no column for speed", path, columns="x,y,speed")
    fails("got 3 columns for the initial state, expected 4 or 6", path, initial_state=["x", "y", "time"])
    (tmp_path / "e.csv").write_bytes(b"id,x,y\n\xff\xfe,1,2\n")
    fails("not a text of comma-separated values in UTF-8", tmp_path / "e.csv", dt=0.1)
    short = lines(tmp_path / "f.csv", "id,time,x,y", *points("a", n=3), *points("b", n=2))
    message = fails("no row can be used of the 2 .*has 3 samples, expected at least 4", short, dt=0.1)
    assert f"{short}, line 2 (id 'a')" in message


def test_parquet_contents(tmp_path, values):
    x = values[..., 0].tolist()
    fails("found no column for y .*it has x, id", table(tmp_path / "a.parquet", x=x, id=list("abcde")), dt=0.1)
    fails(
        "column 'x' is of list<.*string>, expected numbers", table(tmp_path / "b.parquet", x=[["a"]], y=[["b"]]), dt=0.1
    )
    fails("expected lists of numbers, one row per traj", table(tmp_path / "c.parquet", x=[1.0], y=[2.0]), dt=0.1)
    fails("is empty, it has no rows", table(tmp_path / "d.parquet", x=pa.array([], pa.list_(pa.float64()))), dt=0.1)
    fails("expected list columns x and y, .*got a, b", table(tmp_path / "e.parquet", a=[1], b=[2]), dt=0.1)
    path = table(tmp_path / "f.parquet", x=x, y=x, id=x, s=[0.0] * N)
    fails("column 'id' is of list<.*, expected integers or text", path, dt=0.1)
    fails("has no column 'who'; it has x, y, id, s", path, dt=0.1, columns="id=who")
    fails("column 's' is of double, expected lists of 4 or 6", path, dt=0.1, columns="id=s", initial_state="s")
    fails("got 2 columns for the initial state", path, dt=0.1, columns="id=s", initial_state=["s", "s"])
    fails("column 's' is of double, expected integers", path, dt=0.1, columns="id=s,mode=s")
    missing = table(tmp_path / "g.parquet", x=pa.array([None, x[0]]), y=pa.array([x[0], None]))
    fails("no row can be used of the 2", missing, dt=0.1)


@pytest.mark.parametrize("columns", ["x,y,z", "x", "x,x,y", "x,y=", "id", ["x", "y", "color=red"]])
def test_column_options(tmp_path, values, columns):
    fails("^columns: ", save(tmp_path / "in.npz", pred=values), dt=0.1, columns=columns)


# --- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".parquet", ".npz", ".npy", ".csv"])
def test_a_crash_while_writing_leaves_the_old_file(tmp_path, values, suffix):
    path = tmp_path / f"out{suffix}"
    path.write_text("the old one")

    def crash():
        with io.open_table(path) as sink:
            sink.write(np.arange(N), np.zeros(N, int), Trajectory.from_array(values, dt=0.1))
            assert len(list(tmp_path.iterdir())) == 2  # the temporary one is in the same folder
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        crash()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "the old one"


@pytest.mark.parametrize("suffix", [".parquet", ".npz", ".npy"])
def test_a_crash_of_the_format_leaves_nothing(tmp_path, values, suffix, monkeypatch):
    def fail(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", fail)
    monkeypatch.setattr(np, "savez_compressed", fail)
    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(OSError, match="no space"):
        io.write_table(tmp_path / f"out{suffix}", np.arange(N), np.zeros(N, int), Trajectory.from_array(values, dt=0.1))
    assert list(tmp_path.iterdir()) == []


def test_nothing_written_is_no_file(tmp_path):
    with io.open_table(tmp_path / "out.parquet"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_bad_targets_and_columns(tmp_path, values):
    trajectory = Trajectory.from_array(values, dt=0.1)
    ids, mode = np.arange(N), np.zeros(N, int)
    with pytest.raises(io.InputError, match=r"cannot write .xlsx, expected .parquet, .npz, .npy, .csv"):
        io.write_table(tmp_path / "out.xlsx", ids, mode, trajectory)
    with pytest.raises(io.InputError, match=r"folder .*nowhere does not exist"):
        io.write_table(tmp_path / "nowhere" / "out.npz", ids, mode, trajectory)
    with pytest.raises(ValueError, match=r"cost: expected shape \(5,\) like the trajectories, got \(2,\)"):
        io.write_table(tmp_path / "out.npz", ids, mode, trajectory, {"cost": np.zeros(2)})
    with pytest.raises(ValueError, match="are columns of the trajectory already"):
        io.write_table(tmp_path / "out.npz", ids, mode, trajectory, {"x": np.zeros(N)})
    assert list(tmp_path.iterdir()) == []


def test_importing_io_imports_no_pyarrow():
    code = "import sys, feasible.io; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
