/* Times of the exported call, cold and warm, in CPU milliseconds as JSON: 300 cycles of a swaying drive whose samples
   are smooth, or get fresh jitter of up to 5 cm in every cycle. Built and run by exported_c.py. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "projector.h"

enum { CYCLES = 300 };

static feasible_plan plan, cold;
static feasible_request request;
static feasible_workspace workspace;

static double milliseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double chance(double size)
{
    return size * (2.0 * rand() / RAND_MAX - 1.0);
}

static void fill(int cycle, double jitter)
{
    feasible_clear(&request);
    for (int k = 0; k < FEASIBLE_STEPS; k++) {
        const double t = (cycle + k + 1) * FEASIBLE_DT;
        request.samples[k].x = 10.0 * t + chance(jitter);
        request.samples[k].y = 3.0 * sin(0.7 * t) + chance(jitter);
    }
}

static double timed(feasible_plan *into, int *iterations)
{
    const double start = milliseconds();
    if (feasible_project(&request, into, &workspace) > FEASIBLE_PROJECTED)
        exit(1);
    *iterations += into->iterations;
    return milliseconds() - start;
}

static void print(const char *name, double *values, int iterations, const char *end)
{
    qsort(values, CYCLES, sizeof *values, ascending);
    printf("\"%s\": {\"median\": %.3f, \"p90\": %.3f, \"iterations\": %.1f}%s", name, values[CYCLES / 2],
           values[CYCLES * 9 / 10], (double)iterations / CYCLES, end);
}

int main(void)
{
    static double of_cold[CYCLES], of_warm[CYCLES];
    for (int noisy = 0; noisy < 2; noisy++) {
        int cold_iterations = 0, warm_iterations = 0;
        fill(0, 0.05 * noisy);
        feasible_project(&request, &plan, &workspace);
        for (int n = 0; n < CYCLES; n++) {
            fill(n + 1, 0.05 * noisy);
            for (int i = 0; i < FEASIBLE_STATES; i++)
                request.initial[i] = plan.states[1][i];
            of_cold[n] = timed(&cold, &cold_iterations);
            request.previous = &plan;
            request.elapsed = 1;
            of_warm[n] = timed(&plan, &warm_iterations);
        }
        printf(noisy ? ", \"jitter\": {" : "{\"smooth\": {");
        print("cold", of_cold, cold_iterations, ", ");
        print("warm", of_warm, warm_iterations, "}");
    }
    printf("}\n");
    return 0;
}
