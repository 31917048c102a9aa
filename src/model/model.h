/* model.h - the room's door: model files, what they describe, and where they are kept. */
#ifndef SL_MODEL_MODEL_H
#define SL_MODEL_MODEL_H

#include "model/gguf.h"
#include "model/tensor.h"

#endif
