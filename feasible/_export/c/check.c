/* Runs the golden requests on this machine and compares: cc -std=c99 -O2 check.c projector.c programs.c -lm && ./a.out */
#include "projector.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "golden.h"

enum { T = FEASIBLE_STEPS, S = FEASIBLE_STATES, C = FEASIBLE_CONTROLS };

static feasible_plan plans[GOLDEN_CASES], spoilt;
static feasible_request request;
static feasible_workspace workspace;

int main(void)
{
    int failed = 0;
    for (int n = 0; n < GOLDEN_CASES; n++) {
        const golden_case *g = &golden[n];
        feasible_clear(&request);
        memcpy(request.samples, g->samples, sizeof request.samples);
        memcpy(request.initial, g->initial, sizeof request.initial);
        request.elapsed = g->elapsed;
        request.iterations = g->iterations;
        if (g->previous >= 0) {
            spoilt = plans[g->previous];
            if (g->spoilt)
                spoilt.states[1][0] = NAN;
            request.previous = &spoilt;
        }
        const int status = feasible_project(&request, &plans[n], &workspace);
        double away = 0.0;
        for (int k = 0; k <= T; k++) {
            const double d = hypot(plans[n].states[k][0] - g->states[k][0], plans[n].states[k][1] - g->states[k][1]);
            away = d <= away ? away : d;
        }
        const int good = away <= 1e-4 && status == g->status;
        printf("%-28s status %d, %3d iterations, %.1e m from golden%s\n", g->name, status, plans[n].iterations, away,
               good ? "" : "  FAILED");
        failed += !good;
    }
    return failed != 0;
}
