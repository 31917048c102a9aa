/* mean.h - exponential means, of measures that change with the load and the machine. */
#ifndef SL_ENGINE_MEAN_H
#define SL_ENGINE_MEAN_H

/* Moves *mean by share, between 0 and 1, of the way to x; from 0, which stands for not known, all
 * of it. */
static inline void mean_add(double *mean, double x, double share)
{
    *mean = *mean > 0 ? *mean + share * (x - *mean) : x;
}

#endif
