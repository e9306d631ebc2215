/* Trajectory projection for one trajectory per call: the nearest motion that the vehicle of config.h can drive within
   its limits. It certifies kinematics only: not collisions, and not the map.

   C99, double precision. Nothing is allocated, nothing static is written, and only <math.h> and <string.h> are called:
   threads need a workspace each. Whatever numbers come in, every number of a plan is finite.

       static feasible_workspace workspace;
       static feasible_request request;
       static feasible_plan plan;
       feasible_clear(&request);
       ... fill request.samples and request.initial ...
       feasible_project(&request, &plan, &workspace);
       ... drive plan.states; the next cycle, one step later: ...
       request.previous = &plan;
       request.elapsed = 1;
       feasible_project(&request, &plan, &workspace);
*/
#ifndef FEASIBLE_PROJECTOR_H
#define FEASIBLE_PROJECTOR_H

#include "config.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FEASIBLE_ROOM(n) ((n) > 0 ? (n) : 1) /* an array needs an element */

/* How a plan came about; the higher, the further from what was asked for. */
enum {
    FEASIBLE_UNCHANGED = 0, /* the samples can be driven: no position moved by more than a millimetre */
    FEASIBLE_PROJECTED = 1, /* the nearest motion found that keeps every limit */
    FEASIBLE_RELAXED = 2,   /* no motion found that does: the limits with a positive margin are exceeded */
    FEASIBLE_FALLBACK = 3,  /* nothing usable, or no time: braking on the initial curvature */
    FEASIBLE_REJECTED = 4   /* no sample is finite: standing, or braking from the initial state */
};

/* Metres, radians, m/s, in any frame. NaN or infinite: missing. yaw or speed may be missing everywhere, and are then
   free; a sample that lacks what others have is left out. */
typedef struct {
    double x, y, yaw, speed;
} feasible_sample;

typedef struct {
    double states[FEASIBLE_STEPS + 1][FEASIBLE_STATES]; /* now, and at the samples; FEASIBLE_STATE_NAMES */
    double controls[FEASIBLE_STEPS][FEASIBLE_CONTROLS]; /* constant in a step; FEASIBLE_CONTROL_NAMES */
    double margin[FEASIBLE_ROOM(FEASIBLE_LIMITS)]; /* largest normalised excess of a limit, < 0 where there is room */
    double violation;         /* the largest of them, at least 0; integrated, and measured ten times in a step */
    double residual;          /* largest distance of a state from the integrated one */
    double displacement_mean; /* of the positions from the samples [m] */
    double displacement_max;
    double objective;
    int status;
    int converged;  /* whether the solver met its tolerance */
    int iterations; /* linearisations used */
    double samples[FEASIBLE_STEPS][2]; /* what was asked for, for the next warm start; as the states where nothing was */
    double inner[FEASIBLE_ROOM(FEASIBLE_INNER)][FEASIBLE_STEPS]; /* prices of the limits, for the next warm start */
    double entry[FEASIBLE_ROOM(FEASIBLE_ENTRY)];
} feasible_plan;

typedef struct {
    feasible_sample samples[FEASIBLE_STEPS]; /* sample k is at (k + 1) FEASIBLE_DT from now */
    double initial[FEASIBLE_STATES];         /* now; NaN where free. x and y are given both, or both are free */
    const feasible_plan *previous;           /* warm start, or NULL; dropped if not finite or outdated */
    int elapsed;                             /* steps since then */
    int iterations;                          /* bound on linearisations, the deadline: 0 brakes; negative for none */
    double consistency;                      /* weight [1/m^2] of the squared distance from the previous positions */
} feasible_request;

typedef struct {
    double numbers[FEASIBLE_NUMBERS];
} feasible_workspace;

/* A request with all samples missing, everything free, no warm start, no bound and the exported consistency. */
void feasible_clear(feasible_request *request);

/* Answers a request, and returns the plan's status. The previous plan may be the one that is written. */
int feasible_project(const feasible_request *request, feasible_plan *plan, feasible_workspace *workspace);

#ifdef __cplusplus
}
#endif
#endif
