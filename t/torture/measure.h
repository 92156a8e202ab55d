/*
 * measure.h - how much of a matrix is visited: all of it with
 * ZCP_TORTURE=full, else every so many of its points, from a place that
 * ZCP_SEED decides, or chance, which is printed.
 */
#ifndef T_MEASURE_H
#define T_MEASURE_H

#include <stdbool.h>
#include <stdint.h>

bool torture_full(void);
unsigned torture_seed(void);
uint32_t torture_random(void);		/* the seed says it all */

#endif
