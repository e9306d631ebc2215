/* The safe call around the printed programs: a local frame, the warm start, and the ladder

       1  hard limits, from the warm start or a smoothed path
       2  hard limits with tighter bounds, from the answer of 1, where it exceeds them only between the points
       3  hard limits from the smoothed path at another pace, where there is no answer that converged and holds
       4  elastic limits, where there is none that holds
       5  braking, where nothing else is usable

   Each rung ends with a check that is not the solver's. */
#include "projector.h"

#include <math.h>
#include <string.h>

#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#error "compile without -ffast-math and -ffinite-math-only: this code tests for NaN"
#endif

enum { T = FEASIBLE_STEPS, S = FEASIBLE_STATES, C = FEASIBLE_CONTROLS };

static const double NOWHERE = 1e12; /* m: beyond, differences of coordinates mean nothing */
static const double COLD[] = FEASIBLE_COLD, WARM[] = FEASIBLE_WARM, TIGHTER[] = FEASIBLE_TIGHTER,
                    AGAIN[] = FEASIBLE_AGAIN, RELAX[] = FEASIBLE_RELAX;

typedef void program(const double *restrict in, double *restrict out, double *restrict work);
program feasible_hard, feasible_elastic, feasible_brake, feasible_roll; /* programs.c */

typedef struct {
    double *in, *work;
    double *best, *other; /* replies */
    double merit, violation;
    int status, settled, spent, bound;
} ladder;

static int all_finite(const double *values, int count)
{
    for (int i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return 0;
    return 1;
}

void feasible_clear(feasible_request *request)
{
    const feasible_sample missing = {NAN, NAN, NAN, NAN};
    memset(request, 0, sizeof *request);
    for (int k = 0; k < T; k++)
        request->samples[k] = missing;
    for (int i = 0; i < S; i++)
        request->initial[i] = NAN;
    request->previous = NULL;
    request->iterations = -1;
    request->consistency = FEASIBLE_CONSISTENCY;
}

/* The given position, or the first sample that is finite: in its frame coordinates stay small. */
static void find_origin(const feasible_request *request, const double *initial, double *origin)
{
    const int posed = all_finite(initial, 2);
    origin[0] = posed ? initial[0] : 0.0;
    origin[1] = posed ? initial[1] : 0.0;
    if (posed && fabs(origin[0]) <= NOWHERE && fabs(origin[1]) <= NOWHERE)
        return;
    origin[0] = origin[1] = 0.0;
    for (int k = 0; k < T; k++) {
        const feasible_sample *s = &request->samples[k];
        if (isfinite(s->x) && isfinite(s->y)) {
            origin[0] = s->x;
            origin[1] = s->y;
            return;
        }
    }
}

/* Writes samples and initial state into the row; returns whether there is a sample. */
static int write_request(const feasible_request *request, double *in, double *origin)
{
    static const double weights[4] = FEASIBLE_WEIGHTS, effort[] = FEASIBLE_EFFORT;
    double initial[S];
    int stated[4] = {1, 1, 0, 0}, given = 0;
    for (int i = 0; i < S; i++)
        initial[i] = isfinite(request->initial[i]) ? request->initial[i] : NAN;
    if (!all_finite(initial, 2))
        initial[0] = initial[1] = NAN;
    find_origin(request, initial, origin);
    for (int k = 0; k < T; k++) {
        stated[2] |= isfinite(request->samples[k].yaw) != 0;
        stated[3] |= isfinite(request->samples[k].speed) != 0;
    }
    for (int k = 0; k < T; k++) {
        const feasible_sample *s = &request->samples[k];
        const double values[4] = {s->x - origin[0], s->y - origin[1], s->yaw, s->speed};
        int sound = isfinite(s->x) && isfinite(s->y);
        for (int i = 0; i < 4; i++) {
            in[FEASIBLE_IN_TARGET + i * T + k] = values[i];
            in[FEASIBLE_IN_WEIGHT + i * T + k] = stated[i] ? weights[i] : 0.0;
            sound = sound && (!stated[i] || i < 2 || isfinite(values[i]));
        }
        given |= sound;
    }
    for (int i = 0; i < S; i++)
        in[FEASIBLE_IN_INITIAL + i] = i < 2 ? initial[i] - origin[i] : initial[i];
    for (int i = 0; i < C; i++)
        in[FEASIBLE_IN_EFFORT + i] = effort[i];
    in[FEASIBLE_IN_CONSISTENCY] =
        isfinite(request->consistency) && request->consistency > 0.0 ? request->consistency : 0.0;
    return given;
}

/* Writes the previous plan, moved on by the elapsed steps, as the start; beyond its end the car rolls on. */
static int write_start(const feasible_request *request, const double *origin, double *in, double *work)
{
    const feasible_plan *plan = request->previous;
    const int shift = request->elapsed;
    if (plan == NULL || shift < 0 || shift >= T || !all_finite(&plan->states[0][0], (T + 1) * S) ||
        !all_finite(&plan->controls[0][0], T * C) || !all_finite(&plan->samples[0][0], 2 * T) ||
        !all_finite(&plan->inner[0][0], FEASIBLE_INNER * T) || !all_finite(plan->entry, FEASIBLE_ENTRY))
        return 0;
    double state[S];
    for (int k = shift; k <= T + shift; k++) {
        if (k <= T) {
            memcpy(state, plan->states[k], sizeof state);
            state[0] -= origin[0];
            state[1] -= origin[1];
        } else {
            double from[S];
            memcpy(from, state, sizeof from);
            for (int i = 4; i < S; i++)
                from[i] = 0.0;
            feasible_roll(from, state, work);
        }
        const int to = k - shift - 1;
        if (to < 0)
            memcpy(in + FEASIBLE_IN_FIRST, state, sizeof state);
        else
            for (int i = 0; i < S; i++)
                in[FEASIBLE_IN_STATES + i * T + to] = state[i];
    }
    for (int k = 0; k + shift < T; k++) {
        for (int i = 0; i < C; i++)
            in[FEASIBLE_IN_CONTROLS + i * T + k] = plan->controls[k + shift][i];
        for (int i = 0; i < FEASIBLE_INNER; i++)
            in[FEASIBLE_IN_INNER + i * T + k] = plan->inner[i][k + shift];
    }
    for (int k = 0; k < T; k++)
        for (int i = 0; i < 2; i++)
            in[FEASIBLE_IN_SAMPLES + i * T + k] = k + shift < T ? plan->samples[k + shift][i] - origin[i] : NAN;
    for (int i = 0; i < FEASIBLE_ENTRY && shift == 0; i++)
        in[FEASIBLE_IN_ENTRY + i] = plan->entry[i];
    return 1;
}

/* The status of a reply by its check alone, and the violation that the check found. */
static int verdict(const double *reply, double *violation)
{
    *violation = 0.0;
    for (int i = 0; i < FEASIBLE_LIMITS; i++)
        if (!(reply[FEASIBLE_OUT_MARGINS + i] <= *violation))
            *violation = reply[FEASIBLE_OUT_MARGINS + i];
    if (!(reply[FEASIBLE_OUT_EXCESS] <= FEASIBLE_ACCEPTED && *violation <= FEASIBLE_BETWEEN))
        return FEASIBLE_RELAXED;
    if (reply[FEASIBLE_OUT_MOST] <= FEASIBLE_STILL && reply[FEASIBLE_OUT_TURNED] <= 10.0 * FEASIBLE_STILL)
        return FEASIBLE_UNCHANGED;
    return FEASIBLE_PROJECTED;
}

static void take(ladder *l, int status, double violation)
{
    double *taken = l->other;
    l->other = l->best;
    l->best = taken;
    l->status = status;
    l->violation = violation;
}

/* One rung, if there are iterations left for it; `warm` is 1 to start from the previous plan, -1 to stay near it from
   a cold start. An answer that holds beats one that does not; among equals the
   nearer one is better. */
static void attempt(ladder *l, program *run, const double *options, int warm)
{
    double most = options[0], violation;
    if (l->bound >= 0 && l->bound - l->spent < most)
        most = l->bound - l->spent;
    if (most < 1.0)
        return;
    l->in[FEASIBLE_IN_WARM] = warm;
    memcpy(l->in + FEASIBLE_IN_OPTIONS, options, sizeof COLD);
    l->in[FEASIBLE_IN_OPTIONS] = most;
    run(l->in, l->other, l->work);
    const double merit = l->other[FEASIBLE_OUT_MERIT], used = l->other[FEASIBLE_OUT_ITERATIONS];
    l->spent += used >= 0.0 && used <= most ? (int)used : (int)most;
    if (!(l->other[FEASIBLE_OUT_USABLE] > 0.0) || !isfinite(merit))
        return; /* the next rung starts cold */
    const int status = verdict(l->other, &violation);
    const int holds = status <= FEASIBLE_PROJECTED, held = l->status <= FEASIBLE_PROJECTED;
    if (holds == held ? merit < l->merit : holds) {
        take(l, status, violation);
        l->merit = merit;
        l->settled = l->best[FEASIBLE_OUT_CONVERGED] > 0.0;
    }
}

/* Whether the best reply converged to what holds at the points where limits are imposed, and nearly between them. */
static int is_near(const ladder *l)
{
    return l->settled && l->status > FEASIBLE_PROJECTED && l->best[FEASIBLE_OUT_EXCESS] <= FEASIBLE_ACCEPTED &&
           l->violation <= FEASIBLE_NEAR;
}

/* Hard limits, tighter by what the best reply exceeds too much between the points, from that reply; from the smoothed
   path where the previous plan is there for consistency, whose place the reply would take. */
static void attempt_tighter(ladder *l, int warm)
{
    const int free = !warm || l->in[FEASIBLE_IN_CONSISTENCY] == 0.0;
    double *tighter = l->in + FEASIBLE_IN_TIGHTER;
    for (int i = 0; i < FEASIBLE_LIMITS; i++) {
        const double over = l->best[FEASIBLE_OUT_MARGINS + i] - FEASIBLE_BETWEEN;
        tighter[i] = over > 0.0 ? FEASIBLE_BY * over + FEASIBLE_MORE : 0.0;
    }
    if (free) {
        const size_t horizons = (S + C + 2 + FEASIBLE_INNER) * T; /* states, controls, samples, prices */
        memcpy(l->in + FEASIBLE_IN_FIRST, l->best + FEASIBLE_OUT_FIRST, S * sizeof(double));
        memcpy(l->in + FEASIBLE_IN_STATES, l->best + FEASIBLE_OUT_STATES, horizons * sizeof(double));
        memcpy(l->in + FEASIBLE_IN_ENTRY, l->best + FEASIBLE_OUT_ENTRY, FEASIBLE_ENTRY * sizeof(double));
    }
    attempt(l, feasible_hard, free ? TIGHTER : COLD, free ? 1 : -1);
    for (int i = 0; i < FEASIBLE_LIMITS; i++)
        tighter[i] = 0.0;
}

static void descend(ladder *l, int given, int warm)
{
    double violation;
    if (given) {
        attempt(l, feasible_hard, warm ? WARM : COLD, warm);
        if (is_near(l))
            attempt_tighter(l, warm);
        if (!l->settled || l->status > FEASIBLE_PROJECTED)
            attempt(l, feasible_hard, AGAIN, -warm);
        if (l->status > FEASIBLE_PROJECTED)
            attempt(l, feasible_elastic, RELAX, -warm);
        if (l->settled || l->status <= FEASIBLE_PROJECTED)
            return;
    }
    feasible_brake(l->in, l->other, l->work);
    (void)verdict(l->other, &violation);
    if (!given || l->status == FEASIBLE_FALLBACK || violation < l->violation)
        take(l, FEASIBLE_FALLBACK, violation);
}

/* What holds even if all of the above does not: no number of a plan is NaN or infinite. */
static void stand_still(feasible_plan *plan, const double *origin)
{
    const int status = plan->status;
    memset(plan, 0, sizeof *plan);
    for (int k = 0; k <= T; k++) {
        plan->states[k][0] = isfinite(origin[0]) ? origin[0] : 0.0;
        plan->states[k][1] = isfinite(origin[1]) ? origin[1] : 0.0;
    }
    for (int i = 0; i < FEASIBLE_LIMITS; i++)
        plan->margin[i] = FEASIBLE_BIG;
    plan->violation = plan->residual = plan->displacement_mean = plan->displacement_max = FEASIBLE_BIG;
    plan->objective = FEASIBLE_BIG;
    plan->status = status == FEASIBLE_REJECTED ? status : FEASIBLE_FALLBACK;
}

static int is_finite(const feasible_plan *plan)
{
    return all_finite(&plan->states[0][0], (T + 1) * S) && all_finite(&plan->controls[0][0], T * C) &&
           all_finite(plan->margin, FEASIBLE_LIMITS) && all_finite(&plan->samples[0][0], 2 * T) &&
           all_finite(&plan->inner[0][0], FEASIBLE_INNER * T) && all_finite(plan->entry, FEASIBLE_ENTRY) &&
           isfinite(plan->violation) && isfinite(plan->residual) &&
           isfinite(plan->displacement_mean) && isfinite(plan->displacement_max) && isfinite(plan->objective);
}

static void read_reply(const ladder *l, const double *origin, feasible_plan *plan)
{
    const double *reply = l->best;
    memset(plan, 0, sizeof *plan);
    for (int i = 0; i < S; i++) {
        const double shift = i < 2 ? origin[i] : 0.0;
        plan->states[0][i] = reply[FEASIBLE_OUT_FIRST + i] + shift;
        for (int k = 0; k < T; k++)
            plan->states[k + 1][i] = reply[FEASIBLE_OUT_STATES + i * T + k] + shift;
    }
    for (int i = 0; i < C; i++)
        for (int k = 0; k < T; k++)
            plan->controls[k][i] = reply[FEASIBLE_OUT_CONTROLS + i * T + k];
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < T; k++)
            plan->samples[k][i] = reply[FEASIBLE_OUT_SAMPLES + i * T + k] + origin[i];
    memcpy(plan->inner, reply + FEASIBLE_OUT_INNER, FEASIBLE_INNER * T * sizeof(double));
    memcpy(plan->entry, reply + FEASIBLE_OUT_ENTRY, FEASIBLE_ENTRY * sizeof(double));
    memcpy(plan->margin, reply + FEASIBLE_OUT_MARGINS, FEASIBLE_LIMITS * sizeof(double));
    plan->violation = l->violation;
    plan->residual = reply[FEASIBLE_OUT_RESIDUAL];
    plan->displacement_mean = reply[FEASIBLE_OUT_MEAN];
    plan->displacement_max = reply[FEASIBLE_OUT_MOST];
    plan->objective = reply[FEASIBLE_OUT_OBJECTIVE];
    plan->status = reply[FEASIBLE_OUT_ANY_SAMPLE] > 0.0 ? l->status : FEASIBLE_REJECTED;
    plan->converged = reply[FEASIBLE_OUT_CONVERGED] > 0.0;
    plan->iterations = l->spent;
    if (!is_finite(plan))
        stand_still(plan, origin);
}

int feasible_project(const feasible_request *request, feasible_plan *plan, feasible_workspace *workspace)
{
    double *numbers = workspace->numbers, origin[2];
    ladder l;
    l.in = numbers;
    l.best = l.in + FEASIBLE_IN;
    l.other = l.best + FEASIBLE_OUT;
    l.work = l.other + FEASIBLE_OUT;
    l.merit = l.violation = INFINITY;
    l.status = FEASIBLE_FALLBACK;
    l.settled = l.spent = 0;
    l.bound = request->iterations;
    memset(l.in, 0, FEASIBLE_IN * sizeof(double)); /* nothing of an earlier call is left */
    const int given = write_request(request, l.in, origin);
    const int warm = write_start(request, origin, l.in, l.work);
    descend(&l, given, warm);
    read_reply(&l, origin, plan);
    return plan->status;
}
