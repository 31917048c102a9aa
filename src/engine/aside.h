/* aside.h - work of low priority gives way to all other work of this process, also to that of other
 * models.
 *
 * An encoder's texts from LLM_PRIORITY_BATCH on are computed aside: by an engine of their own over
 * the same weights, whose compute threads run only where no other thread wants the processor
 * (SCHED_IDLE). So a model that generates loses next to nothing, and a text of usual priority never
 * waits for a step that was starved. Events still come from a thread of usual priority: the locks
 * that their receivers take must not be held by one that is starved. Besides, engines tell when
 * they have work that somebody waits for: while there is any, steps aside are short and come one by
 * one, with pauses that end with that work. */
#ifndef SL_ENGINE_ASIDE_H
#define SL_ENGINE_ASIDE_H

#include "engine/engine.h"

/* Somebody waits for work of this process from now on; no longer. Counted. Any thread. */
void aside_others_begin(void);
void aside_others_end(void);
bool aside_others(void);

/* The engine beside e, which is an encoder's; started when it is asked for first. Any thread. */
SL_NODISCARD sl_status aside_of(engine *e, engine **ret, sl_err *err);
/* On the thread of an engine that is one: makes what it computes with, and ends it. */
SL_NODISCARD sl_status aside_start(engine *e, sl_err *err);
void aside_stop(engine *e);
/* As encoder_run, by the threads that give way. */
void aside_run(engine *e, const encoder_text *texts, int count);
/* Before a step aside. False: not now, look for work again. idle: it has nothing above
 * LLM_PRIORITY_IDLE, so it rests while its model has other work. */
bool aside_wait(engine *e, bool idle);
/* Wakes those who wait, for an engine that is to stop. */
void aside_wake(void);
/* Stops and frees; accepts NULL. */
void aside_close(engine *e);

#endif
