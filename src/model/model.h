/* model.h - the room's door: model files, what they describe, and where they are kept. */
#ifndef SL_MODEL_MODEL_H
#define SL_MODEL_MODEL_H

#include "model/file.h"
#include "model/gguf.h"
#include "model/params.h"
#include "model/safetensors.h"
#include "model/store.h"
#include "model/tensor.h"

#endif
