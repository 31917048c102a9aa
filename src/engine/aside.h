/* aside.h - work of low priority gives way to all other work of this process, also to that of other
 * models.
 *
 * An encoder's texts from LLM_PRIORITY_BATCH on are computed aside: by an engine of their own over
 * the same weights, so that a text of usual priority never waits for them. Its forward pass stops
 * between short units of work while another engine generates, and goes on in the turns that such
 * engines lend it between their steps: for a fifth of a step's time after each step, or, where no
 * unit is that short, for a little after every ASIDE_RARE-th. So of a stream's gaps none grows by
 * more than a quarter but one in ASIDE_RARE, and what is computed aside still goes on. Nothing is
 * left to the system's scheduler: both never want the processors at the same time.
 *
 * Where others only embed, it waits for their end before each of its steps, but not for long. */
#ifndef SL_ENGINE_ASIDE_H
#define SL_ENGINE_ASIDE_H

#include "engine/engine.h"

#define ASIDE_RARE    400        /* steps, of which one may be long */
#define ASIDE_RARE_NS 10000000LL /* so long */

/* Somebody waits for work of this process from now on; no longer. Counted. generates: by an engine
 * that will lend. Any thread. */
void aside_others_begin(bool generates);
void aside_others_end(bool generates);
bool aside_others(void);

/* Between two steps of an engine that generates, the last of which took step_ns; *steps is the
 * engine's, 0 at first. Lets those who wait compute for a while, when it is time. False: it was
 * not, or nobody waited. */
bool aside_lend(int64_t step_ns, int *steps);
/* Whether anybody waits for a turn. */
bool aside_waits(void);

/* The engine beside e, which is an encoder's; started when it is asked for first. Any thread. */
SL_NODISCARD sl_status aside_of(engine *e, engine **ret, sl_err *err);
/* On the thread of an engine that is one: makes what it computes with. */
SL_NODISCARD sl_status aside_start(engine *e, sl_err *err);
/* Before a step aside. False: not now, look for work again. idle: it has nothing above
 * LLM_PRIORITY_IDLE, so it rests while its model has other work. */
bool aside_wait(engine *e, bool idle);
/* As encoder_run, in turns. */
void aside_run(engine *e, const encoder_text *texts, int count);
/* Wakes those who wait, for an engine that is to stop. */
void aside_wake(void);
/* Stops and frees; accepts NULL. */
void aside_close(engine *e);

#endif
